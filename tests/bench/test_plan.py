"""The benchmark of plans: stacks of the size asked for, made the way real ones are."""

import itertools
import sys
import threading

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


def test_calls_grow_with_the_number_of_resources_not_with_its_square() -> None:
    """Calls for three times the resources; a square would be nine. The benchmark tells how long they take."""

    def calls(size: int) -> int:
        count = itertools.count()
        # The plan is made in a thread of its own, the comparison in this one.
        for module in (threading, sys):
            module.setprofile(lambda *event: next(count))
        try:
            plan = bench.synthetic(size)
            compare(plan, plan)
        finally:
            for module in (threading, sys):
                module.setprofile(None)
        return next(count)

    bench.synthetic(20)
    assert 300 < calls(900) < 4 * calls(300)


def test_the_command_is_run_on_a_stack_of_several_hundred_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_RUNS", 1)
    seconds, resources = bench._command()
    assert seconds > 0
    assert resources >= 300
