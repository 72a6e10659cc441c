"""A matching engine within the test's process: the real books, without journal, funds and risk."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from app.events.matching import MatchingOutput
from app.exchange import Cancel as CoreCancel
from app.exchange import CancelAll as CoreCancelAll
from app.exchange import Command as CoreCommand
from app.exchange import MatchingEngine, PlaceOco
from app.exchange import Place as CorePlace
from app.exchange import Replace as CoreReplace
from app.kit.bus import Record
from app.kit.errors import Unavailable
from app.kit.runtime import Runtime
from app.matching.names import ORDER_TYPES, PREVENTIONS, SIDES, TIMES_IN_FORCE
from app.matching.translate import output_envelope, translate
from app.matching_client.commands import (
    Cancel,
    CancelAfter,
    CancelAll,
    Command,
    Depth,
    Level,
    Oco,
    OrderState,
    Place,
    Replace,
    Result,
)
from app.orders.repository import OrderRecord, OrderRepository


class Owners:
    def __init__(self) -> None:
        self.names = [""]

    def number(self, owner: str) -> int:
        if owner not in self.names:
            self.names.append(owner)
        return self.names.index(owner)

    def owner(self, number: int) -> str:
        return self.names[number]


@dataclass
class Answered:
    result: Result
    command: Command


class FakeEngine:
    """Stands for `MatchingClient`. Market orders are protected at ten times or a tenth of the last price."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.repository = OrderRepository(runtime.backends.database)
        self.books: dict[str, MatchingEngine] = {}
        self.owners = Owners()
        self.answers: dict[tuple[str, str], Answered] = {}
        self.last_id = 0
        self.one = asyncio.Lock()
        self.refused: dict[str, str] = {}
        """Owner → reason for which their orders are rejected before they reach the book."""
        self.away = False
        self.republished: list[tuple[str, int]] = []
        self.switches: list[tuple[str, int]] = []
        self.published: dict[str, list[MatchingOutput]] = defaultdict(list)

    async def close(self) -> None:
        pass

    async def republish(self, symbol: str, after: int) -> None:
        self.republished.append((symbol, after))
        outputs = [output for output in self.published[symbol] if output.last > after]
        await self._send(outputs)

    async def depth(self, symbol: str, levels: int) -> Depth:
        book = self._book(symbol).book
        sides = [
            [
                Level(price=abs(key), quantity=side.levels[key].quantity)
                for key in list(reversed(side.keys))[:levels]
            ]
            for side in (book.bids, book.asks)
        ]
        return Depth(
            symbol=symbol,
            sequence=book.sequence,
            phase="continuous",
            last_price=book.last_price,
            bids=tuple(sides[0]),
            asks=tuple(sides[1]),
        )

    async def submit(self, command: Command) -> Result:
        if self.away:
            raise Unavailable("matching-engine", "away")
        async with self.one:
            return await self._carry_out(command)

    async def _carry_out(self, command: Command) -> Result:
        if isinstance(command, Place | Oco):
            return await self._enter(command)
        if isinstance(command, CancelAfter):
            self.switches.append((command.owner, command.seconds))
            return Result(kind="cancel_after", code="ok")
        now, account = _now(), self.owners.number(command.owner)
        if isinstance(command, CancelAll):
            for symbol in [command.symbol] if command.symbol else list(self.books):
                await self._apply(symbol, CoreCancelAll(now, account))
            return Result(kind="cancel_all", code="ok")
        assert isinstance(command, Cancel | Replace)
        core: CoreCommand = CoreCancel(now, command.order_id, account)
        if isinstance(command, Replace):
            core = CoreReplace(
                now, command.order_id, account, command.quantity, command.price, command.stop_price
            )
        output = await self._apply(command.symbol, core)
        first = output.changes[0]
        if first.kind == "rejected":
            return Result(kind=command.kind, code="rejected", reason=first.reason)
        open_order = self._book(command.symbol).book.orders.get(command.order_id)
        state = OrderState(
            order_id=command.order_id,
            client_order_id="",
            symbol=command.symbol,
            status="open" if open_order else "cancelled",
            filled=0,
            remaining=open_order.remaining if open_order else 0,
            created_at=now,
        )
        return Result(kind=command.kind, code="ok", orders=(state,))

    async def _enter(self, command: Place | Oco) -> Result:
        places = (command,) if isinstance(command, Place) else (command.first, command.second)
        key = places[0].owner, places[0].client_order_id
        if key in self.answers:
            if self.answers[key].command == command:
                return self.answers[key].result.model_copy(update={"repeated": True})
            return Result(kind=command.kind, code="rejected", reason="client_order_id_reused")
        now = _now()
        ids = [self.last_id + number for number in range(1, len(places) + 1)]
        self.last_id = ids[-1]
        refused = self.refused.get(places[0].owner, "")
        group = ids[0] if len(ids) > 1 else None
        records = [_record(place, id, group, now, refused) for place, id in zip(places, ids, strict=True)]
        database = self.runtime.backends.database
        async with database.transaction() as session:
            await self.repository.add(session, records)
        if refused:
            states = [_state(record, "rejected", 0, refused) for record in records]
        else:
            core = [self._core(place, id, now) for place, id in zip(places, ids, strict=True)]
            output = await self._apply(
                command.symbol, core[0] if len(core) == 1 else PlaceOco(now, core[0], core[1])
            )
            states = [
                _state(record, answer.status, answer.filled, answer.reason)
                for record, answer in zip(records, output.answers, strict=True)
            ]
        rejected = states[0].status == "rejected"
        result = Result(
            kind=command.kind,
            code="rejected" if rejected else "ok",
            reason=states[0].reason if rejected else "",
            orders=tuple(states),
        )
        self.answers[key] = Answered(result, command)
        return result

    def _core(self, place: Place, id: int, now: int) -> CorePlace:
        kind, price = place.order_type, place.price
        if kind in ("market", "stop", "take_profit"):
            kind = {"market": "limit", "stop": "stop_limit", "take_profit": "take_profit_limit"}[kind]
            last = place.stop_price or self._book(place.symbol).book.last_price
            price = last * 10 if place.side == "buy" else last // 10
        return CorePlace(
            now,
            id,
            self.owners.number(place.owner),
            SIDES[place.side],
            ORDER_TYPES[kind],
            place.quantity,
            price,
            place.stop_price,
            TIMES_IN_FORCE["ioc" if kind != place.order_type else place.time_in_force],
            place.expires_at,
            PREVENTIONS[place.self_trade_prevention],
            place.post_only,
        )

    def _book(self, symbol: str) -> MatchingEngine:
        return self.books.setdefault(symbol, MatchingEngine(symbol))

    async def _apply(self, symbol: str, command: CoreCommand) -> MatchingOutput:
        events = self._book(symbol).apply(command)
        changes, answers = translate(command, events, self.owners)
        output = MatchingOutput(
            symbol=symbol,
            first=changes[0].sequence,
            last=changes[-1].sequence,
            at=command.time,
            changes=changes,
            answers=answers,
        )
        self.published[symbol].append(output)
        await self._send([output])
        return output

    async def _send(self, outputs: list[MatchingOutput]) -> None:
        records = [Record(output.symbol, output_envelope(output).encode()) for output in outputs]
        await self.runtime.backends.bus.publish("matching.output", records)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _record(place: Place, id: int, group: int | None, now: int, refused: str) -> OrderRecord:
    given: dict[str, Any] = place.model_dump(exclude={"kind"})
    made = OrderRecord(
        **given, order_id=id, group=group, remaining=place.quantity, created_at=now, changed_at=now
    )
    if refused:
        answer = {"answer_status": "rejected", "answer_reason": refused}
        made = replace(made, status="rejected", reason=refused, remaining=0, **answer)
    return made


def _state(record: OrderRecord, status: Any, filled: int, reason: str) -> OrderState:
    return OrderState(
        order_id=record.order_id,
        client_order_id=record.client_order_id,
        symbol=record.symbol,
        status=status,
        filled=filled,
        remaining=0 if status in ("rejected", "cancelled", "filled") else record.quantity - filled,
        reason=reason,
        created_at=record.created_at,
    )
