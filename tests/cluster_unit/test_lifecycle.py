"""A stack belongs to what made it: the engine, or plain applies."""

from pathlib import Path

import pytest

from infra import engine, lifecycle
from infra.errors import TradestackError
from infra.progress import Steps
from infra.target import EmbeddedTarget


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedTarget:
    monkeypatch.setenv("TRADESTACK_STATE_DIR", str(tmp_path))
    return EmbeddedTarget("mine")


def test_a_stack_of_the_engine_is_not_touched_without_it(
    target: EmbeddedTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.local_environment(engine.local_state(target.state, "local"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TradestackError, match="deployed by the Pulumi CLI, which is not on PATH"):
        lifecycle.up_local("local", target, Steps())
    assert not target.cluster.status().running


def test_volumes_of_a_cluster_that_does_not_run_are_data(target: EmbeddedTarget) -> None:
    assert not lifecycle.holds_data("local", target)
    (target.cluster.instance.volumes / "pvc-1").mkdir(parents=True)
    assert lifecycle.holds_data("local", target)
