"""The role as it runs: probes, endpoints for other roles, one leader among replicas."""

import asyncio
from pathlib import Path

import httpx
import pytest

from app.instruments import INSTRUMENTS
from app.matching.term import Term
from app.matching_client.client import MatchingClient
from app.matching_client.commands import Place
from tests.app.platform import running

ROLE = "matching-engine"


async def test_a_leader_that_is_stopped_brings_its_term_to_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    snapshot = Term.snapshot

    async def slowly(term: Term) -> None:
        await asyncio.sleep(0.3)
        await snapshot(term)
        kept.append(term.token)

    async with running(tmp_path, ROLE) as platform:
        monkeypatch.setattr(Term, "snapshot", slowly)
    assert kept == [1]
    async with running(tmp_path, ROLE) as platform:
        assert "matching_leader 1.0" in (await platform.get(ROLE, "/metrics")).text
    assert kept == [1, 2]


async def test_the_role_answers_other_roles(tmp_path: Path) -> None:
    async with running(tmp_path, ROLE) as platform:
        client = MatchingClient(platform.runtimes[ROLE])
        result = await client.submit(
            Place(
                owner="anna",
                client_order_id="1",
                symbol="BTC-USD",
                side="buy",
                order_type="limit",
                quantity=1,
                price=6_000_000,
            )
        )
        assert result.reason == "insufficient_funds"
        depth = await client.depth("BTC-USD", 5)
        assert (depth.phase, depth.bids) == ("continuous", ())
        async with asyncio.timeout(30):
            # The leader publishes its books beside all else, one after the other.
            while len(books := (await client.books()).books) < len(INSTRUMENTS):
                await asyncio.sleep(0.01)
        assert {book.symbol for book in books} == set(INSTRUMENTS)
        assert {(book.kind, book.epoch, book.seq, book.bids) for book in books} == {("snapshot", "1", 1, ())}
        await client.reload_risk()
        await client.republish("BTC-USD", 0)
        await client.close()
        ready = await platform.get(ROLE, "/readyz")
        state = (await platform.get(ROLE, "/internal/matching/state")).json()
        metrics = (await platform.get(ROLE, "/metrics")).text
        refused = await platform.get(ROLE, "/internal/matching/depth", params={"symbol": "NONE"})
        ahead = {"symbol": "BTC-USD", "after": 1}
        async with httpx.AsyncClient(trust_env=False, timeout=30, base_url=platform.url(ROLE)) as plain:
            beyond = await plain.post("/internal/matching/republish", json=ahead)
    assert ready.status_code == 200
    assert state["BTC-USD"]["sequence"] == 0
    assert len(state["BTC-USD"]["state_hash"]) == 64
    assert "matching_leader 1.0" in metrics
    assert 'orders_placed_total{outcome="rejected",side="buy",symbol="BTC-USD"}' in metrics
    assert refused.status_code == 422
    assert beyond.json()["code"] == "sequence-ahead"
