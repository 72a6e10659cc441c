"""Load tests against servers on loopback that behave in known ways."""

import asyncio
import contextlib
import json
import re
import signal
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from infra.bench.order_load import Load, send
from infra.cli import app
from infra.errors import TradestackError
from infra.loadtest import report, result, target
from infra.loadtest.arrival import Arrival, Schedule
from infra.loadtest.http import HttpLoad
from infra.loadtest.latencies import Latencies, percentile
from infra.loadtest.result import Limits

Answer = Callable[[int], Coroutine[Any, Any, bytes | None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SETTINGS = {"rate": 100.0, "connections": 1}


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """Answers the nth request with what `answer` says; None ends the connection."""
    asked = 0
    writers = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        writers.add(writer)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                asked += 1
                found = await answer(asked - 1)
                if found is None:
                    return
                writer.write(found)
                if b"connection: close" in found or b"HTTP/1.0" in found:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for writer in writers:
            writer.transport.abort()


def load_of(url: str, schedule: Schedule, connections: int = 1, timeout: float = 30) -> HttpLoad:
    request = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
    return HttpLoad(urlsplit(url), lambda _: request, schedule, connections=connections, timeout=timeout)


async def tradestack(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", "loadtest", *arguments, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def at_once(number: int) -> bytes:
    return OK


def test_fixed_arrival_is_even_and_bounded_in_count() -> None:
    assert list(Schedule(4, 1).offsets()) == [0, 0.25, 0.5, 0.75]
    assert list(Schedule(4, 1, count=2).offsets()) == [0, 0.25]


def test_poisson_arrival_has_the_rate_and_is_repeatable() -> None:
    schedule = Schedule(1000, 10, arrival=Arrival.POISSON, seed=7)
    moments = list(schedule.offsets())
    assert moments == list(schedule.offsets()) == sorted(moments)
    assert moments[-1] < 10
    assert 9_500 < len(moments) < 10_500
    gaps = [after - before for before, after in pairwise(moments)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.1)


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0, 0.5, 0.99, 0.991, 1)] == [1, 50, 99, 100, 100]
    found = Latencies()
    for value in reversed(values):
        found.add(value / 10, value)
    summary = found.summary()
    assert (summary["count"], summary["min"], summary["mean"], summary["p99"]) == (100, 1, 50.5, 99)
    assert found.curve()[0] == (0, 1)
    assert found.curve()[-1] == (99, 99)
    assert sum(part["count"] for part in found.over_time()) == 100
    assert max(part["max"] for part in found.over_time()) == 100


async def test_latency_counts_from_when_a_request_was_due() -> None:
    async def stall(number: int) -> bytes:
        await asyncio.sleep(0.4 if number == 0 else 0)
        return OK

    async with server(stall) as url:
        load = load_of(url, Schedule(100, 0.4))
        await load.run(asyncio.Event())
    assert load.statuses == {"200": 40}
    assert load.late_starts >= 30
    for at, ms in zip(load.latencies.at, load.latencies.ms, strict=True):
        # 1 ms: the resolution of the timer that the server waits by.
        assert ms >= 400 - at * 1000 - 1


async def test_what_never_answers_is_in_the_percentiles_and_fails() -> None:
    async def never(number: int) -> bytes:
        if number:
            await asyncio.Event().wait()
        return OK

    async with server(never) as url:
        load = load_of(url, Schedule(100, 0.1), timeout=0.3)
        await load.run(asyncio.Event())
    found = result.of_requests("http", url, SETTINGS, load, Limits(p99_ms=100))
    assert (found["figures"]["answered"], found["figures"]["unanswered"]) == (1, 9)
    assert found["latency_ms"]["p99"] >= 300
    assert found["failures"] == {"unanswered": 9}
    assert len(found["broken"]) == 2
    assert result.exit_code(found) == 1


async def test_broken_connections_are_counted_and_opened_again() -> None:
    async def third_breaks(number: int) -> bytes | None:
        return None if number == 2 else OK

    async with server(third_breaks) as url:
        load = load_of(url, Schedule(200, 0.1))
        await load.run(asyncio.Event())
    assert load.statuses == {"200": 19, "lost": 1}
    lenient = result.of_requests("http", url, SETTINGS, load, Limits(failed=0.05))
    assert (lenient["broken"], result.exit_code(lenient)) == ([], 0)
    strict = result.of_requests("http", url, SETTINGS, load, Limits(failed=0.04))
    assert result.exit_code(strict) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
    ids=["connection: close", "without a length", "chunked", "after an interim answer"],
)
async def test_every_form_of_an_answer_is_read(answer: bytes) -> None:
    bodies = []

    async def form(number: int) -> bytes:
        return answer

    async with server(form) as url:
        origin, request = urlsplit(url), b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
        load = HttpLoad(
            origin,
            lambda _: request,
            Schedule(100, 0.05),
            connections=2,
            answered=lambda status, body: bodies.append((status, body)),
        )
        await load.run(asyncio.Event())
    assert bodies == [("200", b"ok")] * 5


async def test_the_benchmark_of_orders_sends_each_order_once() -> None:
    heads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                heads.append((head.splitlines()[0], head.split("Bearer ")[1].split()[0], body))
                answer = b'{"order_id":"%d"}' % len(heads)
                writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    markets = {"BTC-USD": ("100", "0.01", "0.001")}
    load = Load(url, ["a", "b"], markets, rate=200, seconds=0.1, connections=3, run="r")
    outcome = await send(load)
    listening.close()
    assert outcome.statuses == {"201": 20}
    assert sorted(outcome.acknowledged) == list(range(1, 21))
    assert len(outcome.latencies_ms) == 20
    assert {line for line, _, _ in heads} == {"POST /api/orders HTTP/1.1"}
    assert {body["client_order_id"] for _, _, body in heads} == {f"r-{n}" for n in range(20)}
    assert {token for _, token, body in heads if int(body["client_order_id"][2:]) % 2} == {"b"}
    assert all(99.8 <= float(body["price"]) <= 100.2 for _, _, body in heads)


async def test_a_target_that_does_not_listen_is_an_error() -> None:
    async with server(at_once) as url:
        pass
    with pytest.raises(TradestackError, match="cannot be reached"):
        await load_of(url, Schedule(10, 1)).run(asyncio.Event())


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://localhost/", "http://[::1]:80/", "http://gateway.app.svc/x"]
)
def test_near_targets_are_allowed(url: str) -> None:
    assert target.check(url, ("http",), allow_remote=False).geturl() == url


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/",
        "http://0.0.0.0/",
        "http://127.0.0.1.svc.192.0.2.1/",
        "ws://127.0.0.1/",
        "http://user@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/a\r\nb",
        "127.0.0.1",
    ],
)
def test_other_targets_are_refused(url: str) -> None:
    with pytest.raises(TradestackError):
        target.check(url, ("http",), allow_remote=False)
    done = CliRunner().invoke(app, ["loadtest", "http", "--", url])
    assert isinstance(done.exception, TradestackError)


def test_remote_targets_need_a_word() -> None:
    assert target.check("http://192.0.2.1/", ("http",), allow_remote=True).hostname == "192.0.2.1"


def test_the_report_stands_alone_and_escapes() -> None:
    load = HttpLoad(urlsplit("http://x"), lambda _: b"", Schedule(1, 1), connections=1)
    for n in range(1000):
        load.latencies.add(n / 100, 1 + n % 50)
    load.complete, load.due, load.statuses, load.seconds = True, 1000, {"200": 1000}, 10.0
    document = result.of_requests("http", "http://x/<script>", SETTINGS, load, Limits())
    page = report.html(json.loads(json.dumps(document)))
    assert "<script" not in page
    assert not re.search(r"(src|href)=|url\(|@import", page)
    plots = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert [len(plot.findall("polyline")) for plot in plots] == [1, 3]
    labels = [text.text for text in plots[0].findall("text")]
    assert labels[:4] == ["0 %", "90 %", "99 %", "99.9 %"]
    for plot in plots:
        for line in plot.findall("polyline"):
            for point in line.attrib["points"].split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= 860
                assert 0 <= y <= 300


def test_a_report_of_nothing() -> None:
    load = HttpLoad(urlsplit("http://x"), lambda _: b"", Schedule(1, 1), connections=1)
    load.complete = True
    document = result.of_requests("http", "http://x", SETTINGS, load, Limits(p99_ms=1))
    assert document["broken"] == ["nothing was measured"]
    assert "nothing was measured" in report.html(document)
    assert report.lines(document)


async def test_the_command_writes_one_object_and_a_page(tmp_path: Path) -> None:
    async with server(at_once) as url:
        options = ("--rate", "200", "--seconds", "0.5", "--arrival", "poisson", "--connections", "5")
        code, out, err = await tradestack(
            "http", f"{url}/a?b=c", url, *options, "--json", "--out", str(tmp_path / "new")
        )
        assert code == 0, err
        document = json.loads(out)
        assert document == json.loads((tmp_path / "new" / "result.json").read_text())
        assert document["complete"]
        assert document["statuses"] == {"200": document["figures"]["due"]}
        assert "✓ 200 requests/s" in err
        assert (tmp_path / "new" / "report.html").read_text().startswith("<!doctype html>")
        code, out, _ = await tradestack("http", url, *options, "--p99-ms", "0.001")
        assert code == 1
        assert "over the limit of 0.001 ms" in out


async def test_an_interrupt_ends_early_and_keeps_the_result(tmp_path: Path) -> None:
    busy = asyncio.Event()

    async def count(number: int) -> bytes:
        if number == 20:
            busy.set()
        return OK

    async with server(count) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.cli", "loadtest", "http", url),
            *("--seconds", "3600", "--rate", "200"),
            *("--json", "--out", str(tmp_path)),
            stdout=-1,
            stderr=-1,
        )
        await busy.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    document = json.loads(out)
    assert process.returncode == 130, err
    assert not document["complete"]
    assert document["latency_ms"]["count"] >= 20
    assert document["failures"] == {}
    assert "incomplete" in (tmp_path / "report.html").read_text()
