"""How long planning and bringing up the local stack take."""

import json
import subprocess
import sys
import time
from statistics import median

from infra import lifecycle
from infra.bench.report import Report, versions
from infra.errors import TradestackError
from infra.progress import Steps
from infra.target import EmbeddedTarget

_PLAN_RUNS = 5
_CLUSTER = "bench-stack"


def measure(steps: Steps) -> Report:
    """Time the plan as a command, then a warm `up` and an `up` without changes on a cluster of its own.

    Warm means: every binary and image is in the cache, the cluster is stopped with its state kept. It is
    deleted at the end. Times are wall seconds; `changed` counts what the second `up` touched (0 expected).
    """
    target = EmbeddedTarget(_CLUSTER)
    if target.cluster.instance.state.exists():
        raise TradestackError(
            f"there is a cluster '{_CLUSTER}' already, and the benchmark would delete it",
            hint=f"tradestack cluster down --name {_CLUSTER} --purge",
        )
    with steps.step("Plan", estimate_s=3 * _PLAN_RUNS):
        seconds, resources = _plan()
    try:
        _timed_up(target, steps)
        target.stop(steps, volumes=False)
        warm_s, _ = _timed_up(target, steps)
        nochange_s, changed = _timed_up(target, steps)
    finally:
        target.stop(steps, volumes=True)
    return Report(
        name="stack",
        ours={
            "plan_s": round(seconds, 3),
            "resources": resources,
            "up_warm_s": round(warm_s, 1),
            "up_nochange_s": round(nochange_s, 1),
            "changed": changed,
        },
        versions=dict(versions(["pulumi", "pulumi-kubernetes"])),
    )


def _plan() -> tuple[float, int]:
    times, resources = [], 0
    for _ in range(_PLAN_RUNS):
        started = time.perf_counter()
        command = [sys.executable, "-m", "infra.cli", "plan", "local", "--json"]
        output = subprocess.run(command, capture_output=True, check=True).stdout
        times.append(time.perf_counter() - started)
        resources = len(json.loads(output)["resources"])
    return median(times), resources


def _timed_up(target: EmbeddedTarget, steps: Steps) -> tuple[float, int]:
    started = time.perf_counter()
    result = lifecycle.up_local("local", target, steps)
    return time.perf_counter() - started, result.changed
