"""The benchmark's commands do what they are meant to, and what our side writes is a journal."""

from pathlib import Path

import pytest

from app.exchange import Accepted, Cancelled, MatchingEngine, Rejected, Trade
from app.exchange.journal import decode, read_batches
from infra.bench.matching import command_stream
from infra.bench.matching_side import BATCH, measure


@pytest.mark.parametrize("levels", [1, 100, 10_000])
def test_our_side_journals_what_it_executes(tmp_path: Path, levels: int) -> None:
    count = 40 * BATCH
    journal = tmp_path / "journal"
    result = measure("ours", command_stream(levels, count), [str(journal)])
    engine, lots, accepted, cancelled = MatchingEngine("BENCH"), 0, 0, 0
    for _, records in read_batches(journal.read_bytes()):
        for command in decode(records):
            for event in engine.apply(command):
                assert not isinstance(event, Rejected)
                accepted += isinstance(event, Accepted)
                cancelled += isinstance(event, Cancelled)
                lots += event.quantity if isinstance(event, Trade) else 0
    assert accepted + cancelled == count
    assert lots == result["lots"] > 0
    assert result["ops_per_s"] > 0
    assert result["p50_us"] <= result["p99_us"] <= result["p999_us"]


def test_the_mix_is_seventy_to_thirty() -> None:
    places = sum(place for place, *_ in command_stream(100, 5_000))
    assert 0.68 < places / 5_000 < 0.72
