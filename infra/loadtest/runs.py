"""Runs loads with live progress, until their end or an interrupt, and makes results of them."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from ssl import SSLContext
from typing import Any, Protocol
from urllib.parse import urlsplit

import uvloop

from app.process import stop_on_signal
from infra.loadtest import result
from infra.loadtest.arrival import Schedule
from infra.loadtest.http import HttpLoad
from infra.loadtest.orders import Market, OrderRequests
from infra.loadtest.result import Limits
from infra.loadtest.stream import Listening, StreamLoad, allow_files
from infra.loadtest.users import Users
from infra.progress import Step, Steps

_REFRESH_SECONDS = 0.5


class _Load(Protocol):
    async def run(self, stopping: asyncio.Event) -> None: ...
    def progress(self) -> str: ...


def http(
    urls: Sequence[str],
    schedule: Schedule,
    connections: int,
    timeout: float,
    limits: Limits,
    tls: SSLContext | None = None,
) -> dict[str, Any]:
    """GET URLs of one server in turn; returns the result. `tls` is for https.

    Raises:
        TradestackError: the server cannot be reached.
    """
    origin = urlsplit(urls[0])
    requests = []
    for url in urls:
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        requests.append(f"GET {path} HTTP/1.1\r\nhost: {origin.netloc}\r\n\r\n".encode())

    def request(number: int) -> bytes:
        return requests[number % len(requests)]

    load = HttpLoad(origin, request, schedule, connections=connections, timeout=timeout, tls=tls)
    _run_requests(load, schedule, connections)
    settings = {"urls": list(urls), **_settings(schedule, connections, timeout, limits)}
    return result.of_requests("http", f"{origin.scheme}://{origin.netloc}", settings, load, limits)


def orders(
    url: str,
    users: Users,
    markets: Mapping[str, Market],
    schedule: Schedule,
    connections: int,
    timeout: float,
    limits: Limits,
    tls: SSLContext | None = None,
) -> dict[str, Any]:
    """Place limit orders of users, who take turns; returns the result. `tls` is for https.

    Raises:
        TradestackError: the server cannot be reached.
    """
    origin = urlsplit(url)
    run = f"load-{secrets.token_hex(6)}"
    requests = OrderRequests(origin.netloc, users.tokens, markets, seed=schedule.seed, run=run)
    load = HttpLoad(origin, requests, schedule, connections=connections, timeout=timeout, tls=tls)
    _run_requests(load, schedule, connections, users.keep_fresh)
    settings = {
        "middle_prices": {symbol: market[0] for symbol, market in markets.items()},
        "users": len(users.tokens),
        "client_order_ids": f"{run}-*",
        **_settings(schedule, connections, timeout, limits),
    }
    document = result.of_requests("orders", f"{origin.scheme}://{origin.netloc}", settings, load, limits)
    document["figures"] |= {"tokens_renewed": users.renewed, "renewals_failed": users.renewals_failed}
    return document


def ws(
    listening: Listening, schedule: Schedule, hold: float, max_messages: int, limits: Limits
) -> dict[str, Any]:
    """Listen to the price stream on `schedule.count` connections.

    Raises:
        TradestackError: the system does not let a process have as many connections.
    """
    allow_files(schedule.count)
    load = StreamLoad(listening, schedule=schedule, hold=hold, max_messages=max_messages)
    _run(load, f"{schedule.count} connections for {hold:g} s", schedule.count / schedule.rate + hold)
    settings = {
        "symbols": list(listening.symbols),
        "symbols_each": listening.each,
        "channels": list(listening.channels),
        "resume": listening.resume,
        "clients_per_address": listening.clients_per_address,
        "connections": schedule.count,
        "connect_rate": schedule.rate,
        "arrival": schedule.arrival.value,
        "seed": schedule.seed,
        "seconds": hold,
        "max_messages": max_messages,
        "timeout_s": listening.timeout,
        "limits": asdict(limits),
    }
    return result.of_stream(", ".join(listening.urls), settings, load, limits)


def _settings(schedule: Schedule, connections: int, timeout: float, limits: Limits) -> dict[str, Any]:
    return {
        "rate": schedule.rate,
        "arrival": schedule.arrival.value,
        "seconds": schedule.seconds,
        "count": schedule.count,
        "seed": schedule.seed,
        "connections": connections,
        "timeout_s": timeout,
        "limits": asdict(limits),
    }


_Beside = Callable[[], Coroutine[Any, Any, None]]


def _run_requests(
    load: HttpLoad, schedule: Schedule, connections: int, beside: _Beside | None = None
) -> None:
    allow_files(connections)
    expected = min(schedule.seconds, schedule.count / schedule.rate)
    _run(load, f"{schedule.rate:g} requests/s", expected, beside)


def _run(load: _Load, name: str, expected: float, beside: _Beside | None = None) -> None:
    with Steps().step(name, estimate_s=expected) as step:
        uvloop.run(_watch(load, step, beside))


async def _watch(load: _Load, step: Step, beside: _Beside | None) -> None:
    """Show how a load goes; what goes on `beside` it ends with it."""
    helping = asyncio.create_task(beside()) if beside is not None else None
    work = asyncio.create_task(load.run(stop_on_signal()))
    while not work.done():
        await asyncio.wait((work,), timeout=_REFRESH_SECONDS)
        step.detail(load.progress())
    if helping is not None:
        helping.cancel()
    await work
