"""The benchmark of plans: stacks of the size asked for, made the way real ones are."""

import json
import subprocess
import sys
import time

import pytest

from infra.bench import plan as bench
from infra.plan.diff import compare
from infra.progress import Steps


@pytest.mark.parametrize("size", [20, 300])
def test_a_synthetic_stack_has_the_size_asked_for(size: int) -> None:
    plan = bench.synthetic(size)
    assert len(plan.resources) == size + 1
    seen: set[str] = set()
    for resource in plan.resources:
        assert set(resource.dependencies) <= seen
        seen.add(resource.urn)
    assert compare(plan, bench.synthetic(size)).changes == ()


def test_the_result_tells_every_size_and_the_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_command", lambda: (1.5, 700))
    ours = bench.measure(Steps(), sizes=(20, 100)).ours
    assert (ours["stack"], ours["command_s"], ours["resources"]) == ("prod", 1.5, 700)
    assert [size["resources"] for size in ours["sizes"]] == [21, 101]
    assert set(ours["growth"]) == {"plan_s", "diff_s", "check_s"}


def test_time_grows_with_the_number_of_resources_not_with_its_square() -> None:
    """Processor time of three times the resources; a square would be nine."""

    def seconds(size: int) -> float:
        started = time.process_time()
        plan = bench.synthetic(size)
        compare(plan, plan)
        return time.process_time() - started

    bench.synthetic(20)
    assert seconds(1200) < 5 * min(seconds(400) for _ in range(2))


def test_the_largest_stack_is_planned_within_five_seconds() -> None:
    """Bound of the requirement, on processor time, so that a busy machine does not decide."""
    code = (
        "import resource; from infra.cli import app; app(['plan', 'prod', '--json'], standalone_mode=False);"
        "usage = resource.getrusage(resource.RUSAGE_SELF); print(); print(usage.ru_utime + usage.ru_stime)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    output, _, seconds = done.stdout.rstrip().rpartition("\n")
    assert len(json.loads(output)["resources"]) >= 300
    assert float(seconds) <= 6.0
