"""What a load test found, as one JSON document, and whether that is what was asked for."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra.bench.report import machine
from infra.loadtest.http import HttpLoad
from infra.loadtest.stream import StreamLoad

INTERRUPTED = 130


@dataclass(frozen=True)
class Limits:
    """What a run has to keep to."""

    p99_ms: float | None = None
    failed: float = 0.0
    """Share of requests or connections, from 0 to 1."""


def of_requests(
    kind: str, target: str, settings: dict[str, Any], load: HttpLoad, limits: Limits
) -> dict[str, Any]:
    """The result of requests; every status but 2xx and 3xx is a failure, and so is no answer."""
    failures = load.failures()
    # What a run that was ended early did not wait for has not failed.
    if load.complete and load.unanswered:
        failures["unanswered"] = load.unanswered
    answered = sum(load.statuses.values()) - load.statuses.get("lost", 0)
    figures = {
        "due": load.due,
        "answered": answered,
        "unanswered": load.unanswered,
        "waited_for_connection": load.late_starts,
        "asked_per_s": settings["rate"],
        "answered_per_s": round(answered / load.seconds, 2) if load.seconds else 0.0,
    }
    return _document(kind, target, settings, load, limits, failures, load.due) | {
        "figures": figures,
        "statuses": dict(sorted(load.statuses.items())),
        "sender_lag_ms": load.lag.summary(),
    }


def of_stream(target: str, settings: dict[str, Any], load: StreamLoad, limits: Limits) -> dict[str, Any]:
    """The result of a stream; connections that were not opened or broke, and refusals, are failures."""
    gaps = load.gaps_by_connection
    held = load.held_seconds
    figures = {
        "due": load.due,
        "opened": len(load.connects),
        "messages": load.messages,
        "messages_per_s": round(load.held_messages / held, 2) if held else 0.0,
        "held_s": round(held, 3),
        "gaps_told": load.told_gaps,
        "gaps_untold": load.untold_gaps,
        "connections_with_gaps": sum(gap > 0 for gap in gaps),
        "most_gaps_of_a_connection": max(gaps, default=0),
        "messages_repeated": load.repeats,
        "messages_from_the_future": load.clock_behind,
        "reconnects": load.reconnects,
        "streams_resumed_whole": load.resumed_whole,
        "streams_resumed_anew": load.resumed_anew,
    }
    found = _document("ws", target, settings, load, limits, load.failures, load.due)
    if load.complete and load.due < settings["connections"]:
        found["broken"].append("so many messages came that not all connections were opened")
    if load.untold_gaps:
        found["broken"].append(f"{load.untold_gaps} gaps in the stream were not told")
    return found | {"figures": figures, "connect_ms": load.connects.summary()}


def _document(
    kind: str,
    target: str,
    settings: dict[str, Any],
    load: HttpLoad | StreamLoad,
    limits: Limits,
    failures: dict[str, int],
    total: int,
) -> dict[str, Any]:
    latency = load.latencies.summary()
    failed = sum(failures.values())
    broken = []
    if load.complete and not latency["count"]:
        broken.append("nothing was measured")
    if limits.p99_ms is not None and latency["count"] and latency["p99"] > limits.p99_ms:
        broken.append(f"p99 is {latency['p99']:g} ms, over the limit of {limits.p99_ms:g} ms")
    if failed > limits.failed * total:
        broken.append(f"{failed} failures; {limits.failed * 100:g} % of {total} are accepted")
    return {
        "kind": kind,
        "target": target,
        "complete": load.complete,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "process_cpu_s": round(sum(os.times()[:2]), 2),
        "settings": settings,
        "seconds": round(load.seconds, 3),
        "latency_ms": latency,
        "failures": dict(sorted(failures.items())),
        "broken": broken,
        "percentiles": load.latencies.curve(),
        "over_time": load.latencies.over_time(),
    }


def exit_code(document: dict[str, Any]) -> int:
    """0: came to its end and kept to its limits; 1: did not keep to them; 130: ended early."""
    if document["broken"]:
        return 1
    return 0 if document["complete"] else INTERRUPTED
