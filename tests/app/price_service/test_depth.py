"""The channel `depth`: a client always has the engine's book, or is told that it has to begin anew."""

import random

import pytest

from app.events.books import BookUpdated
from app.price_service.depth import Depth
from app.price_service.hub import Client, Hub
from app.price_service.streams import Position
from tests.app.price_service.depth_client import DepthClient, messages
from tests.app.price_service.market import Market

STREAM = "depth:BTC-USD"


class Viewer:
    """A client of a hub and the book that it keeps."""

    def __init__(self, hub: Hub, symbol: str = "BTC-USD") -> None:
        self.hub = hub
        self.book = DepthClient(symbol)
        self.client = Client(self.write)
        hub.join(self.client)

    def write(self, data: bytes) -> None:
        for message in messages(data):
            self.book.take(message)

    def subscribe(self) -> "Viewer":
        self.hub.subscribe(self.client, [f"depth:{self.book.symbol}"])
        return self

    def resume(self, seen: DepthClient) -> bool:
        """Go on from what another connection saw; whether that was possible."""
        self.book.__dict__.update({**seen.__dict__, "reasons": [], "changes": 0})
        stream, position = f"depth:{seen.symbol}", Position(seen.epoch, seen.seq)
        possible = self.hub.recoverable(self.client, {stream: position})[stream]
        self.hub.subscribe(self.client, [stream], {stream: position if possible else None})
        return possible


@pytest.fixture
def hub() -> Hub:
    return Hub(ring=5)


@pytest.fixture
def depth(hub: Hub) -> Depth:
    made = Depth(hub)
    hub.add(made)
    return made


async def test_a_client_has_the_book_at_once_and_then_each_change(hub: Hub, depth: Depth) -> None:
    market = Market()
    depth.take([await market.changed(200)])
    viewer = Viewer(hub).subscribe()
    assert viewer.book.reasons == ["subscribe"]
    for _ in range(20):
        depth.take([await market.changed()])
        assert viewer.book.levels() == market.levels()
    assert (viewer.book.reasons, viewer.book.changes) == (["subscribe"], 20)
    late = Viewer(hub).subscribe()
    assert late.book.levels() == viewer.book.levels()
    assert late.book.position() == viewer.book.position()
    assert late.book.reasons == ["subscribe"]


@pytest.mark.parametrize("symbol", ["EUR-USD", "AAPL", "DOGE-USD"])
async def test_sizes_of_ticks_and_lots_do_not_matter(hub: Hub, depth: Depth, symbol: str) -> None:
    market = Market(symbol)
    depth.take([await market.changed(200)])
    viewer = Viewer(hub, symbol).subscribe()
    depth.take([await market.changed()])
    assert viewer.book.levels() == market.levels()


async def test_a_gap_is_closed_by_the_engine_and_told(hub: Hub, depth: Depth) -> None:
    market = Market()
    depth.take([await market.changed(100)])
    viewer = Viewer(hub).subscribe()
    await market.changed()
    after = await market.changed()
    answer = (await market.ask()).books
    later = await market.changed()
    depth.take([after, later])
    assert depth.lost == {"BTC-USD"}
    assert viewer.book.seq == 1
    depth.load(answer)
    assert depth.lost == set()
    # The answer is of the moment before the last change, which was kept meanwhile.
    assert (viewer.book.reasons, viewer.book.changes) == (["subscribe", "resync"], 1)
    assert viewer.book.levels() == market.levels()
    depth.take([await market.changed()])
    assert viewer.book.levels() == market.levels()


async def test_a_book_that_is_not_the_engines_is_got_again(hub: Hub, depth: Depth) -> None:
    market = Market()
    depth.take([await market.changed(100)])
    viewer = Viewer(hub).subscribe()
    before = viewer.book.levels()
    good = await market.changed()
    depth.take([good.model_copy(update={"checksum": good.checksum ^ 1})])
    assert depth.lost == {"BTC-USD"}
    assert viewer.book.levels() == before
    assert Viewer(hub).subscribe().book.levels() == before
    wrong = (await market.ask()).books[0]
    depth.load([wrong.model_copy(update={"checksum": wrong.checksum ^ 1})])
    assert depth.lost == {"BTC-USD"}
    depth.load((await market.ask()).books)
    assert depth.lost == set()
    assert viewer.book.levels() == market.levels()
    assert viewer.book.reasons == ["subscribe", "resync"]


async def test_repeated_updates_are_dropped(hub: Hub, depth: Depth) -> None:
    market = Market()
    whole = await market.changed(100)
    viewer = Viewer(hub).subscribe()
    change = await market.changed()
    depth.take([whole, whole, change, whole, change, change])
    assert (viewer.book.reasons, viewer.book.changes) == (["resync"], 1)
    assert depth.lost == set()


async def test_a_new_leader_begins_anew_and_the_old_one_is_not_heard(hub: Hub, depth: Depth) -> None:
    market = Market()
    depth.take([await market.changed(100)])
    viewer = Viewer(hub).subscribe()
    late = await market.changed()
    market.lead(2)
    (whole,) = await market.publish()
    depth.take([whole])
    assert viewer.book.position() == {"epoch": "2", "seq": 1}
    depth.take([late])
    assert viewer.book.position() == {"epoch": "2", "seq": 1}
    assert depth.lost == {"BTC-USD"}
    depth.load((await market.ask()).books)
    assert (depth.lost, viewer.book.reasons) == (set(), ["subscribe", "resync"])
    depth.take([await market.changed()])
    assert viewer.book.levels() == market.levels()


async def test_terms_are_compared_as_numbers(hub: Hub, depth: Depth) -> None:
    market = Market()
    market.lead(9)
    depth.take([await market.changed(100)])
    market.lead(10)
    depth.take(await market.publish())
    assert Viewer(hub).subscribe().book.position() == {"epoch": "10", "seq": 1}


async def test_numbers_of_terms_that_begin_anew_are_taken_from_the_engine(hub: Hub, depth: Depth) -> None:
    """As with a database that was restored."""
    market = Market()
    market.lead(7)
    depth.take([await market.changed(100)])
    viewer = Viewer(hub).subscribe()
    market.lead(1)
    depth.take(await market.publish())
    assert viewer.book.epoch == "7"
    depth.load((await market.ask()).books)
    assert viewer.book.position() == {"epoch": "1", "seq": 1}
    depth.take([await market.changed()])
    assert viewer.book.levels() == market.levels()


async def test_who_comes_back_gets_what_was_missed_or_the_whole(hub: Hub, depth: Depth) -> None:
    market = Market()
    depth.take([await market.changed(100)])
    gone = Viewer(hub).subscribe()
    hub.leave(gone.client)
    for _ in range(5):
        depth.take([await market.changed()])
    soon = Viewer(hub)
    assert soon.resume(gone.book)
    assert (soon.book.reasons, soon.book.changes) == ([], 5)
    assert soon.book.levels() == market.levels()
    depth.take([await market.changed()])
    late = Viewer(hub)
    assert not late.resume(gone.book)
    assert late.book.reasons == ["resync"]
    assert late.book.levels() == market.levels()
    hub.leave(soon.client)
    market.lead(2)
    depth.take(await market.publish())
    other = Viewer(hub)
    assert not other.resume(soon.book)
    assert other.book.position() == {"epoch": "2", "seq": 1}


async def test_a_slow_client_gets_the_latest_book(hub: Hub, depth: Depth) -> None:
    market = Market()
    depth.take([await market.changed(100)])
    viewer = Viewer(hub).subscribe()
    hub.paused(viewer.client)
    for _ in range(10):
        depth.take([await market.changed()])
    assert viewer.book.seq == 1
    hub.resumed(viewer.client)
    assert (viewer.book.reasons, viewer.book.changes) == (["subscribe", "slow"], 0)
    assert viewer.book.levels() == market.levels()
    depth.take([await market.changed()])
    assert viewer.book.changes == 1


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_on_the_way_no_client_has_a_wrong_book(
    hub: Hub, depth: Depth, seed: int
) -> None:
    """Updates are lost, repeated, damaged, late; leaders change; clients are slow. `DepthClient` fails where
    a message does not fit, and in the end everybody has the book."""
    rng, market = random.Random(seed), Market(seed=seed)
    viewers = [Viewer(hub).subscribe()]
    sent: list[BookUpdated] = []
    epoch, slow = 1, set[Viewer]()
    for _ in range(400):
        if rng.random() < 0.7:
            market.change(rng.randint(1, 30))
        fate = rng.random()
        if fate < 0.03:
            epoch += rng.randint(1, 9)
            market.lead(epoch)
        new = await market.publish()
        sent += new
        if fate < 0.1:
            continue
        if fate < 0.2:
            new += rng.choices(sent, k=3)
        elif fate < 0.25:
            new = [one.model_copy(update={"bids": ((20_000, 7), *one.bids)}) for one in new]
        depth.take(new)
        if depth.lost and rng.random() < 0.3:
            depth.load((await market.ask()).books)
        if rng.random() < 0.05:
            viewers.append(Viewer(hub).subscribe())
        one = rng.choice(viewers)
        if one in slow:
            slow.discard(one)
            hub.resumed(one.client)
        elif rng.random() < 0.1:
            slow.add(one)
            hub.paused(one.client)
    for one in slow:
        hub.resumed(one.client)
    depth.take(await market.publish())
    depth.lose(["BTC-USD"], "start")
    depth.load((await market.ask()).books)
    assert depth.lost == set()
    assert {viewer.book.levels() == market.levels() for viewer in viewers} == {True}
    assert sum(viewer.book.changes for viewer in viewers) > 100
    assert {"subscribe", "resync", "slow"} <= {reason for v in viewers for reason in v.book.reasons}
