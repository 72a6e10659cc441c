"""Commands on their way through the engine, and what a group of them shall do."""

from dataclasses import dataclass, field, replace
from typing import Literal

from app.matching.journal import Entry
from app.matching_client.commands import Command, OrderState, Result, Status
from app.orders.repository import OrderRecord
from app.wallet.orders import Amend, OrderHold


@dataclass(frozen=True, slots=True)
class Advance:
    """Let time pass in a symbol: orders of it are due to expire."""

    symbol: str
    kind: str = "advance"


@dataclass(frozen=True, slots=True)
class Lapse:
    """An owner was not heard of in time: everything is cancelled, the dead-man switch is gone."""

    owner: str
    kind: str = "lapse"


Task = Command | Advance | Lapse


@dataclass(slots=True, eq=False)
class Item:
    """One command on its way."""

    task: Task
    entries: list[tuple[str, Entry]] = field(default_factory=list)
    orders: list[OrderRecord] = field(default_factory=list)
    """Orders that it makes, entered or rejected."""
    holds: list[OrderHold] = field(default_factory=list)
    result: Result | None = None
    same_as: "Item | None" = None
    """The item of this group that has the same client order id."""
    amend: Amend | None = None
    unknown: bool = False
    """Answered before, but the first answer is not to be had at this moment."""

    def decline(self, reason: str) -> None:
        """Answer it with no and keep no record: it may be asked again, and costs nothing until then."""
        self.orders = []
        self.reject(reason)

    def reject(self, reason: str) -> None:
        """Answer it with no; its orders stay on record as rejected."""
        self.entries.clear()
        self.holds.clear()
        self.amend = None
        self.orders = [_rejected(order, reason) for order in self.orders]
        states = tuple(state_of(order, "rejected", 0, reason) for order in self.orders)
        self.result = Result(kind=kind_of(self.task), code="rejected", reason=reason, orders=states)


@dataclass(slots=True)
class Plan:
    """What a group shall do."""

    at: int
    items: list[Item] = field(default_factory=list)
    accounts: dict[str, int] = field(default_factory=dict)
    """Owners that get a number."""
    deadlines: dict[str, int] = field(default_factory=dict)
    """Dead-man switches that are set, or with 0 taken away."""
    last_order: int = 0

    def orders(self) -> list[OrderRecord]:
        """Every new order."""
        return [order for item in self.items for order in item.orders]

    def amends(self) -> list[Amend]:
        """Every hold that has to grow."""
        return [item.amend for item in self.items if item.amend is not None]

    def sections(self) -> dict[str, list[Entry]]:
        """The commands of the core by symbol, in the order in which the symbols first come."""
        found: dict[str, list[Entry]] = {}
        for item in self.items:
            for symbol, entry in item.entries:
                found.setdefault(symbol, []).append(entry)
        return found


def kind_of(
    task: Task,
) -> Literal["place", "oco", "cancel", "replace", "cancel_all", "set_phase", "cancel_after"]:
    """What the answer to a task is called; the engine's own tasks have no kind of their own."""
    return "cancel_all" if isinstance(task, Advance | Lapse) else task.kind


def state_of(order: OrderRecord, status: Status, filled: int, reason: str) -> OrderState:
    """An order as its sender is told."""
    is_open = status in ("open", "waiting", "partially_filled")
    return OrderState(
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        status=status,
        filled=filled,
        remaining=order.quantity - filled if is_open else 0,
        reason=reason,
        created_at=order.created_at,
    )


def _rejected(order: OrderRecord, reason: str) -> OrderRecord:
    return replace(
        order, status="rejected", remaining=0, reason=reason, answer_status="rejected", answer_reason=reason
    )
