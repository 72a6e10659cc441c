"""The benchmark of the fan-out, small: every side is really served and counted."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.bench import fanout, report
from infra.bench.fanout_servers import PEERS
from infra.bench.fanout_source import STEP, Source, batches
from infra.cli import app
from infra.progress import Steps
from infra.servers.backing import Missing

SIZE = fanout.Size(
    clients=20,
    seconds=3.0,
    rounds=1,
    idle=50,
    tenk_clients=200,
    # Often enough that each symbol trades within a moment, too.
    tenk_rate=4.0,
    tenk_seconds=4.0,
    connect_rate=200.0,
    # Other tests run beside this one, and what a side gets after a pause at the end is not counted.
    lost=0.9,
)


@pytest.fixture(scope="module")
def measured() -> report.Report:
    try:
        return fanout.measure(Steps(quiet=True), SIZE)
    except Missing as missing:
        pytest.skip(str(missing))


def test_every_side_delivers_what_was_published(measured: report.Report) -> None:
    sides = {"ours": measured.ours, **measured.peers}
    assert sides.keys() == {"ours", "uvicorn", "websockets"} == {"ours", *PEERS}
    for found in sides.values():
        # 20 clients, 5 symbols each, 2 ticks a second of each symbol; more come where a side catches up.
        assert found["frames"] / found["seconds"] >= (1 - SIZE.lost) * 200
        assert found["gaps_untold"] == 0
        assert found["us_per_frame"] > 0
        assert 0 <= found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]
        assert isinstance(found["bytes_per_connection"], int)


def test_the_source_trades_each_symbol_as_often_as_asked_for() -> None:
    made = batches(Source("", ["A", "B", "C"], rate=2.0))
    steps = [next(made) for _ in range(round(100 / STEP))]
    assert sum(map(len, steps)) == 600
    assert all(len(set(step)) == len(step) for step in steps)
    for symbol in "ABC":
        assert sum(symbol in step for step in steps) == pytest.approx(200, rel=0.15)


def test_the_ratio_is_that_to_the_best_peer(measured: report.Report) -> None:
    best = min(peer["us_per_frame"] for peer in measured.peers.values())
    assert measured.ratio == pytest.approx(best / measured.ours["us_per_frame"], abs=0.01)
    assert json.loads(measured.as_json())["versions"].keys() >= {"picows", "uvicorn", "websockets"}


def test_many_clients_of_several_processes_miss_nothing(measured: report.Report) -> None:
    tenk = measured.ours["tenk"]
    assert (tenk["clients"], tenk["processes"]) == (200, 2)
    asked = SIZE.tenk_clients * SIZE.tenk_rate
    assert tenk["messages"] / tenk["seconds"] >= (1 - SIZE.lost) * asked
    assert tenk["least_messages_of_a_client"] > 0
    assert tenk["gaps_untold"] == 0
    assert tenk["p99_ms"] > 0


def test_a_trial_is_not_kept(
    measured: report.Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(fanout, "measure", lambda steps, size: measured)
    told = CliRunner().invoke(app, ["bench", "fanout", "--small"])
    assert json.loads(told.output)["name"] == "fanout"
    assert list(tmp_path.iterdir()) == []
    CliRunner().invoke(app, ["bench", "fanout"])
    assert [path.name for path in tmp_path.iterdir()] == ["fanout.json"]


def test_too_few_files_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.errors import TradestackError
    from infra.loadtest import stream

    monkeypatch.setattr(stream.resource, "getrlimit", lambda _: (1024, 4096))
    with pytest.raises(TradestackError, match=r"10000 connections need 10064 open files.*4096"):
        fanout.measure(Steps(quiet=True))
