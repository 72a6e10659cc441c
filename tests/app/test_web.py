"""What every HTTP role does alike, and the market data API."""

import asyncio
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from httpx import ASGITransport, AsyncClient

from app.kit.errors import Unavailable
from app.kit.problems import Problem
from tests.app.platform import Platform, running


async def candles(platform: Platform, query: str = "") -> list[dict[str, object]]:
    found = (await platform.get("market-data", f"/api/market/candles/BTC-USD{query}")).json()["candles"]
    assert isinstance(found, list)
    return found


async def test_instruments_tickers_and_candles(tmp_path: Path) -> None:
    async with running(tmp_path, "market-data", "price-collector", feed_history_minutes=30) as platform:
        async with asyncio.timeout(30):
            while len(await candles(platform)) < 25:
                await asyncio.sleep(0.05)
        instruments = (await platform.get("market-data", "/api/market/instruments")).json()
        assert (instruments[0]["symbol"], instruments[0]["tick_size"]) == ("BTC-USD", "0.01")
        ticker = (await platform.get("market-data", "/api/market/tickers/BTC-USD")).json()
        assert float(ticker["low"]) <= float(ticker["price"]) <= float(ticker["high"])
        tickers = (await platform.get("market-data", "/api/market/tickers")).json()
        assert {t["symbol"] for t in tickers} == {i["symbol"] for i in instruments}

        page = (await platform.get("market-data", "/api/market/candles/BTC-USD?limit=10")).json()
        before = (
            await platform.get(
                "market-data", "/api/market/candles/BTC-USD", params={"limit": 10, "end": page["previous"]}
            )
        ).json()
        starts = [c["start"] for c in before["candles"] + page["candles"]]
        assert len(starts) == 20
        assert starts == sorted(set(starts))
        within = {"start": starts[3], "end": starts[8]}
        part = (await platform.get("market-data", "/api/market/candles/BTC-USD", params=within)).json()
        assert [c["start"] for c in part["candles"]] == starts[3:8]
        assert part["previous"] is None
        assert len(await candles(platform, "?interval=15m")) <= 4


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/market/candles/NOPE", 404, "unknown-symbol"),
        ("/api/market/tickers/NOPE", 404, "unknown-symbol"),
        ("/api/market/tickers/BTC-USD", 404, "no-price"),
        ("/api/market/nothing", 404, "not-found"),
        ("/api/market/instruments/", 404, "not-found"),
        ("/api/market/candles/BTC-USD?interval=7m", 422, "invalid-request"),
        ("/api/market/candles/BTC-USD?limit=0", 422, "invalid-request"),
        ("/api/market/candles/BTC-USD?limit=1001", 422, "invalid-request"),
        ("/api/market/candles/BTC-USD?start=yesterday", 422, "invalid-request"),
        ("/api/market/candles/BTC-USD?start=2026-01-02T00:00:00", 422, "invalid-request"),
        (
            "/api/market/candles/BTC-USD?start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z",
            422,
            "invalid-request",
        ),
    ],
)
async def test_wrong_requests_are_problems(tmp_path: Path, path: str, status: int, code: str) -> None:
    async with running(tmp_path, "market-data") as platform:
        found = await platform.get("market-data", path)
        document = found.json()
        assert (found.status_code, found.headers["content-type"]) == (status, "application/problem+json")
        assert (document["status"], document["code"]) == (status, code)
        assert document["detail"]
        assert document["type"].endswith(code)


async def test_methods_that_are_not_there_are_problems(tmp_path: Path) -> None:
    async with running(tmp_path, "market-data") as platform, AsyncClient(trust_env=False) as client:
        refused = await client.delete(platform.url("market-data", "/api/market/tickers"))
        assert (refused.status_code, refused.json()["code"], refused.headers["allow"]) == (
            405,
            "method-not-allowed",
            "GET",
        )


async def test_failures_inside_are_problems_without_details(tmp_path: Path) -> None:
    from app.kit import web

    router = APIRouter()

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret reason")

    @router.get("/gone")
    async def gone() -> None:
        raise Unavailable("database", "host 10.0.0.1")

    @router.get("/teapot")
    async def teapot() -> None:
        raise Problem(418, "teapot", "Short and stout.", handle="left")

    async with running(tmp_path, "frontend") as platform:
        app: FastAPI = web.create_app(platform.runtimes["frontend"], router)
        transport = ASGITransport(app, raise_app_exceptions=False)
        async with AsyncClient(transport=transport, base_url="http://test") as client:
            for path, status, code in (
                ("/broken", 500, "internal-error"),
                ("/gone", 503, "unavailable"),
                ("/teapot", 418, "teapot"),
            ):
                found = await client.get(path)
                assert (found.status_code, found.json()["code"]) == (status, code)
                assert "secret" not in found.text
                assert "10.0.0.1" not in found.text
            assert (await client.get("/teapot")).json()["handle"] == "left"


async def test_a_log_line_stays_short_and_tells_who_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, object]] = []
    monkeypatch.setattr("app.kit.web._log.info", lambda _, **fields: lines.append(fields))
    async with running(tmp_path, "gateway") as platform:
        await platform.get("gateway", "/internal/" + "x" * 5000)
        host, port = platform.url("gateway").removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /api/market/x HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
        await writer.drain()
        writer.close()
        async with asyncio.timeout(30):
            while len(lines) < 2:
                await asyncio.sleep(0.02)
    assert (lines[0]["status"], len(str(lines[0]["path"]))) == (404, 256)
    assert lines[1]["status"] in (499, 502)


async def test_request_ids_are_kept_or_made(tmp_path: Path) -> None:
    async with running(tmp_path, "frontend") as platform:
        for given, kept in (
            ("my-request-42", True),
            ("", False),
            ("bad id\twith spaces", False),
            ("x" * 100, False),
        ):
            found = await platform.get("frontend", "/", headers={"x-request-id": given})
            assert (found.headers["x-request-id"] == given) is kept
            assert len(found.headers["x-request-id"]) >= 8


async def test_readiness_follows_the_needs_and_liveness_does_not(tmp_path: Path) -> None:
    async with running(tmp_path, "market-data") as platform:
        assert (await platform.get("market-data", "/readyz")).status_code == 200
        platform.runtimes["market-data"].ready = False
        assert (await platform.get("market-data", "/readyz")).status_code == 503
        assert (await platform.get("market-data", "/livez")).status_code == 200
        metrics = (await platform.get("market-data", "/metrics")).text
        assert "outbox_oldest_age_seconds" in metrics


async def test_pages_come_with_strict_headers(tmp_path: Path) -> None:
    async with running(tmp_path, "frontend") as platform:
        for path, kind in (("/", "text/html"), ("/js/main.js", "javascript"), ("/css/base.css", "text/css")):
            found = await platform.get("frontend", path)
            assert found.status_code == 200
            assert kind in found.headers["content-type"]
            assert "default-src 'none'" in found.headers["content-security-policy"]
            assert "unsafe" not in found.headers["content-security-policy"]
            assert found.headers["x-content-type-options"] == "nosniff"
        again = await platform.get("frontend", "/", headers={"if-none-match": found.headers["etag"]})
        assert again.status_code in (200, 304)
        assert (await platform.get("frontend", "/../app/roles.py")).status_code == 404
