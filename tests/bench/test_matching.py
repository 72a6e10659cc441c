"""The benchmark of the matching core: what its result says, and that a side doing other work has none."""

from pathlib import Path
from typing import Any

import pytest

from app.exchange import build
from infra.bench import matching as bench
from infra.errors import TradestackError
from infra.progress import Steps

PEER = "lightmatchingengine"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "COMMANDS", 2_000)
    monkeypatch.setattr(bench, "ROUNDS", 1)


def with_peer(monkeypatch: pytest.MonkeyPatch, **result: Any) -> None:
    """One peer can be installed; it does what we do, except for what is said."""
    missing = dict.fromkeys(set(bench.PEERS) - {PEER}, "not there")
    monkeypatch.setattr(bench, "_peers", lambda: (Path("python"), missing))
    run = bench._run_side

    def side(name: str, python: Path, stream: Path) -> dict[str, Any]:
        return run(bench.OURS, python, stream) | result if name == PEER else run(name, python, stream)

    monkeypatch.setattr(bench, "_run_side", side)


def test_the_result_tells_every_side_at_every_number_of_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    with_peer(monkeypatch, ops_per_s=1000.0)
    report = bench.measure(Steps())
    for side in (report.ours, report.ours["plain"], report.peers[PEER]):
        assert list(side["levels"]) == ["1", "100", "10000"]
        for result in side["levels"].values():
            assert 0 < result["p50_us"] <= result["p99_us"] <= result["p999_us"]
    assert report.ours["compiled"] is build.folder().is_dir()
    assert report.ours["plain"]["compiled"] is False
    assert report.peers["pyorderbook"] == {"unavailable": "not there"}
    for levels, ratio in report.ours["ratios"].items():
        assert ratio == pytest.approx(report.ours["levels"][levels]["ops_per_s"] / 1000, abs=0.01)
    assert report.ratio == report.ours["ratios"]["100"]
    assert report.versions[PEER] == bench.PEERS[PEER]


def test_a_side_that_executed_something_else_is_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    with_peer(monkeypatch, lots=1)
    with pytest.raises(TradestackError, match=f"{PEER} executed 1 lots of 1 levels, ours [0-9]+"):
        bench.measure(Steps())


def test_without_a_peer_there_is_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_peers", lambda: (Path("python"), dict.fromkeys(bench.PEERS, "not there")))
    report = bench.measure(Steps())
    assert report.ratio is None
    assert set(report.ours["ratios"].values()) == {None}
