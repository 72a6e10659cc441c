"""The whole platform in one process, and the command line."""

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.roles import ROLES
from infra.servers.process import ServerProcess, answers, free_port, wait_until
from tests.traders import PASSWORD, address, operator, registered, within

SECONDS = 60
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}


def get(url: str) -> Any:
    return httpx.get(url, trust_env=False, timeout=SECONDS).json()


def candles(port: int, query: str = "") -> list[dict[str, Any]]:
    """No candles before the role behind the gateway answers."""
    found: list[dict[str, Any]] = get(f"http://127.0.0.1:{port}/api/market/candles/BTC-USD{query}").get(
        "candles", []
    )
    return found


def app(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**CLEAN, **env},
    )


def test_is_up_and_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "app", "run", "all", "--port", str(port)]
    process = ServerProcess(
        command, tmp_path / "all.log", env={"TMPDIR": str(tmp_path), "APP_LOG_LEVEL": "WARNING"}
    )
    process.start(lambda: "Tradestack is up" in process.output, SECONDS)
    # Roles that wait for each other may warn after it.
    assert f"Tradestack is up: http://localhost:{port}" in process.output.splitlines()
    wait_until("the simulated past is there", lambda: len(candles(port)) > 100, SECONDS)
    assert process.stop(SECONDS) == 0, process.output
    assert not answers(port)
    assert [path.name for path in tmp_path.iterdir()] == ["all.log"]


def test_goes_on_with_its_data(tmp_path: Path) -> None:
    def first_candle() -> str:
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "app",
            "run",
            "all",
            "--port",
            str(port),
            "--data",
            str(tmp_path / "data"),
        ]
        process = ServerProcess(command, tmp_path / "all.log", env={"APP_FEED_HISTORY_MINUTES": "5"})
        process.start(lambda: answers(port), SECONDS)
        try:
            found = within(
                SECONDS,
                "candles are there",
                lambda: made if len(made := candles(port, "?limit=1000")) > 4 else None,
            )
            return str(found[0]["start"])
        finally:
            process.stop(SECONDS)

    assert first_candle() == first_candle()


def test_two_users_trade_and_the_order_book_outlives_the_process(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "app", "run", "all", "--port", str(port), "--data", str(data)]
    process = ServerProcess(command, tmp_path / "all.log", env={"APP_LOG_LEVEL": "WARNING"})
    process.start(lambda: "Tradestack is up" in process.output, SECONDS)
    try:
        assert {path.name: path.stat().st_mode & 0o777 for path in data.glob("app_auth_*")} == {
            "app_auth_signing_key": 0o600,
            "app_auth_encryption_key": 0o600,
        }
        email = address("operator")
        made = subprocess.run(
            [sys.executable, "-m", "app.auth.admin", email],
            input=f"{PASSWORD}\n",
            text=True,
            capture_output=True,
            check=False,
            env={
                **CLEAN,
                "APP_DATABASE_URL": f"sqlite+aiosqlite:///{data}/tradestack.db",
                "APP_CACHE_URL": "memory://",
            },
        )
        assert made.returncode == 0, made.stderr
        back_office = operator(url, email)
        seller, buyer = registered(url, "seller"), registered(url, "buyer")
        back_office.deposit(seller, "BTC", "1")
        back_office.deposit(buyer, "USD", "100000")
        ticker = f"{url}/api/market/tickers/BTC-USD"
        price = within(30, "there is a price", lambda: get(ticker).get("price"))
        rests = seller.place("sell", price, "0.02")
        assert buyer.place("buy", price, "0.01")["status"] == "filled"
        within(30, "the trade is settled", lambda: buyer.balance("BTC") == (Decimal("0.01"), 0))
        within(30, "there is a position", lambda: buyer.call("GET", "/api/portfolio/positions"))
        assert back_office.call("POST", "/api/wallet/operations/reconciliation")["clean"]
        assert process.stop(SECONDS) == 0
        process.start(lambda: process.output.count("Tradestack is up") == 2, SECONDS)
        book = get(f"{url}/api/book/BTC-USD")
        assert [(level["price"], Decimal(level["quantity"])) for level in book["asks"]] == [
            (price, Decimal("0.01"))
        ]
        assert seller.call("GET", f"/api/orders/{rests['order_id']}")["status"] == "partially_filled"
    finally:
        process.stop(SECONDS)


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    port = free_port()
    first = ServerProcess(
        [sys.executable, "-m", "app", "run", "all", "--port", str(port)], tmp_path / "first.log"
    )
    first.start(lambda: answers(port), SECONDS)
    try:
        second = app("run", "all", "--port", str(port))
    finally:
        first.stop(SECONDS)
    assert second.returncode == 2
    assert f"gateway cannot listen on 127.0.0.1:{port}: Address already in use" in second.stderr
    assert "Traceback" not in second.stderr


def test_roles_lists_all() -> None:
    listed = app("roles")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(ROLES)


@pytest.mark.parametrize("role", ["nothing", ""])
def test_an_unknown_role_is_refused(role: str) -> None:
    refused = app("run", role)
    assert refused.returncode == 2
    assert "invalid choice" in refused.stderr


def test_migrate_takes_a_revision(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/app.db"
    for revision in ("head", "base", "head"):
        done = app("migrate", "--to", revision, APP_DATABASE_URL=url)
        assert done.returncode == 0, done.stderr
