"""Our matching core, journal included, against order books from PyPI on one command stream."""

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from app.exchange import Cancel, MatchingEngine, OrderType, Place, Side
from app.exchange.build import PURE
from infra.bench import matching_side
from infra.bench.report import Report, versions
from infra.errors import TradestackError
from infra.paths import cache_dir
from infra.process import CommandFailed, run
from infra.progress import Steps

PEERS = {
    "akhil4n-orderbook": "0.1.1",
    "cython-orderbook": "0.1.2",
    "lightmatchingengine": "2019.1.4",
    "pyorderbook": "0.4.9",
}
COMMANDS = 50_000
CANCELS = 0.3
LEVELS = (1, 100, 10_000)
"""Price levels of the curve."""
MAIN_LEVELS = 100
"""The point of the curve that stands for the whole."""
ROUNDS = 7
"""Every side is measured this often, in turns, and its fastest round counts: what else the machine does only
ever makes a round slower."""

OURS = "ours"
PLAIN = "plain"
"""Ours again, as plain Python instead of compiled."""

Result = dict[str, Any]


def measure(steps: Steps) -> Report:
    """Run every side in a process of its own on the same streams and compare what was executed.

    Raises:
        TradestackError: a side executed another quantity than ours, so that its time says nothing.
    """
    with steps.step("Install the peers", estimate_s=20):
        python, missing = _peers()
    peers = [peer for peer in PEERS if peer not in missing]
    sides = [OURS, PLAIN, *peers]
    curves: dict[str, dict[int, Result]] = {side: {} for side in sides}
    with tempfile.TemporaryDirectory(prefix="tradestack-bench-") as directory:
        for levels in LEVELS:
            stream = Path(directory) / f"{levels}.json"
            stream.write_text(json.dumps(command_stream(levels, COMMANDS)))
            with steps.step(f"{COMMANDS} commands on {levels} price levels", estimate_s=60):
                for side, result in _compare(sides, python, stream).items():
                    curves[side][levels] = result
    ratios = {
        str(levels): _ratio(curves[OURS][levels], [curves[peer][levels] for peer in peers])
        for levels in LEVELS
    }
    return Report(
        name="matching",
        ours=_summary(curves[OURS]) | {"ratios": ratios, PLAIN: _summary(curves[PLAIN])},
        peers={peer: _summary(curves[peer]) for peer in peers}
        | {peer: {"unavailable": reason} for peer, reason in missing.items()},
        ratio=ratios[str(MAIN_LEVELS)],
        versions=dict(versions([], **PEERS)),
    )


def _ratio(ours: Result, peers: list[Result]) -> float | None:
    """How many times as fast as the fastest peer; None without one."""
    return round(_speed(ours) / max(map(_speed, peers)), 2) if peers else None


def command_stream(levels: int, count: int, seed: int = 1) -> list[list[int]]:
    """Commands for `matching_side`: 70 % limit orders, 30 % cancels of open orders.

    Prices are drawn from `levels` ticks; buys from the lower five eighths, sells from the upper, so that some
    orders trade and most rest.
    """
    pick = random.Random(seed)  # noqa: S311
    engine = MatchingEngine("BENCH")
    reach = max(1, levels * 5 // 8)
    stream: list[list[int]] = []
    rested: list[int] = []
    for number in range(1, count + 1):
        target = _open_order(engine, rested, pick) if pick.random() < CANCELS else None
        if target is not None:
            engine.apply(Cancel(0, target, target))
            stream.append([0, target, 0, 0, 0])
            continue
        side, offset, quantity = pick.randrange(2), pick.randrange(reach), pick.randint(1, 100)
        price = 1_000_000 + (levels - 1 - offset if side else offset)
        engine.apply(Place(0, number, number, Side(side), OrderType.LIMIT, quantity, price))
        rested.append(number)
        stream.append([1, number, side, price, quantity])
    return stream


def _open_order(engine: MatchingEngine, rested: list[int], pick: random.Random) -> int | None:
    """A random open order, taken from the list of what may still be open."""
    while rested:
        index = pick.randrange(len(rested))
        rested[index], rested[-1] = rested[-1], rested[index]
        order_id = rested.pop()
        if order_id in engine.book.orders:
            return order_id
    return None


def _compare(sides: list[str], python: Path, stream: Path) -> dict[str, Result]:
    rounds: dict[str, list[Result]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side in sides:
            rounds[side].append(_run_side(side, python, stream))
    expected = rounds[OURS][0]["lots"]
    for side, results in rounds.items():
        if results[0]["lots"] != expected:
            raise TradestackError(
                f"{side} executed {results[0]['lots']} lots of {stream.stem} levels, ours {expected}"
            )
    return {side: _rounded(max(results, key=_speed)) for side, results in rounds.items()}


def _run_side(side: str, python: Path, stream: Path) -> Result:
    command: list[str | Path] = [python, Path(matching_side.__file__), side, stream]
    environment = dict(os.environ)
    if side in (OURS, PLAIN):
        journal = stream.with_suffix(".journal")
        command = [sys.executable, "-m", matching_side.__name__, OURS, stream, journal]
        environment[PURE] = "1" if side == PLAIN else "0"
    result: Result = json.loads(run(command, timeout=300, env=environment))
    return result


def _speed(result: Result) -> float:
    speed: float = result["ops_per_s"]
    return speed


def _rounded(result: Result) -> Result:
    microseconds = {name: round(result[name], 2) for name in ("p50_us", "p99_us", "p999_us")}
    return result | microseconds | {"ops_per_s": round(result["ops_per_s"])}


def _summary(curve: dict[int, Result]) -> Result:
    return {**curve[MAIN_LEVELS], "levels": {str(levels): result for levels, result in curve.items()}}


def _peers() -> tuple[Path, dict[str, str]]:
    """The Python of an environment that holds the peers, and why some could not be installed."""
    pins = [f"{name}=={version}" for name, version in PEERS.items()]
    key = hashlib.sha256(" ".join([*pins, sys.version]).encode()).hexdigest()[:16]
    home = cache_dir() / "bench" / f"matching-{key}"
    python, complete = home / "bin" / "python", home / "complete"
    missing: dict[str, str] = {}
    if not complete.exists():
        shutil.rmtree(home, ignore_errors=True)
        run([sys.executable, "-m", "venv", home])
        for name, pin in zip(PEERS, pins, strict=True):
            try:
                run(
                    [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", pin],
                    timeout=300,
                )
            except CommandFailed as error:
                missing[name] = str(error).splitlines()[-1]
        if not missing:
            complete.touch()
    return python, missing
