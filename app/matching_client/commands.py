"""What other roles ask of the matching engine, and what it answers; the bodies of its internal endpoints.

Prices are ticks, quantities lots, times Unix milliseconds; 0 stands for "none" where a field is optional.
Bounds are those of the core: numbers below 2**53, which JSON and floating point carry exactly.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from app.events.books import BookUpdated
from app.events.matching import OrderTypeName, SelfTradePreventionName, Side, TimeInForceName
from app.exchange.terms import MAX_VALUE
from app.instruments import INSTRUMENTS

LARGEST_BATCH: Final = 200
"""Commands of one request: a group that one transaction carries in some milliseconds."""
LARGEST_DEPTH: Final = 200
"""Price levels of each side in one answer."""
LONGEST_CANCEL_AFTER: Final = 86_400
"""Seconds; a day."""
COMMANDS_PATH: Final = "/internal/matching/commands"
REPUBLISH_PATH: Final = "/internal/matching/republish"
DEPTH_PATH: Final = "/internal/matching/depth"
BOOKS_PATH: Final = "/internal/matching/books"
RELOAD_RISK_PATH: Final = "/internal/matching/reload-risk"
NOT_LEADER: Final = "not-leader"
"""Code of the problem (421) of a replica that is not the leader; its member `leader` is the leader's base URL
or absent while there is none."""

_WORD: Final = r"^[\x21-\x7e]+$"


def _known(symbol: str) -> str:
    if symbol not in INSTRUMENTS:
        raise ValueError(f"one of {', '.join(INSTRUMENTS)}")
    return symbol


Symbol = Annotated[
    str, Field(max_length=20, json_schema_extra={"enum": list(INSTRUMENTS)}), AfterValidator(_known)
]
OwnerId = Annotated[str, Field(min_length=1, max_length=80, pattern=_WORD)]
ClientOrderId = Annotated[str, Field(min_length=1, max_length=64, pattern=_WORD)]
OrderId = Annotated[int, Field(gt=0, le=MAX_VALUE, strict=True)]
Lots = Annotated[int, Field(gt=0, le=MAX_VALUE, strict=True)]
Ticks = Annotated[int, Field(ge=0, le=MAX_VALUE, strict=True)]
Milliseconds = Annotated[int, Field(ge=0, lt=10_000_000_000_000, strict=True)]
"""Before the year 2286."""
PhaseName = Literal["continuous", "auction", "cancel_only", "halted"]
Origin = Literal["user", "forced_close"]
Status = Literal["open", "waiting", "partially_filled", "filled", "cancelled", "rejected"]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Body):
    """Enter an order. A `client_order_id` of an owner enters one order only, however often it comes."""

    kind: Literal["place"] = "place"
    owner: OwnerId
    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    order_type: OrderTypeName
    quantity: Lots
    price: Ticks = 0
    """Limit price; 0 for market orders and for stops without a limit."""
    stop_price: Ticks = 0
    time_in_force: TimeInForceName = "gtc"
    expires_at: Milliseconds = 0
    """With `gtd` only: the first moment at which the order is no longer open."""
    self_trade_prevention: SelfTradePreventionName = "cancel_taker"
    post_only: bool = False
    origin: Origin = "user"


class Oco(_Body):
    """Enter two orders of which one cancels the other; of one owner, symbol, side and quantity."""

    kind: Literal["oco"] = "oco"
    first: Place
    second: Place

    @model_validator(mode="after")
    def _alike(self) -> Self:
        first, second = self.first, self.second
        for name in ("owner", "symbol", "side", "quantity", "origin"):
            if getattr(first, name) != getattr(second, name):
                raise ValueError(f"both orders of a pair have the same {name}")
        if first.client_order_id == second.client_order_id:
            raise ValueError("each order of a pair has a client_order_id of its own")
        return self

    @property
    def owner(self) -> str:
        """Owner of both orders."""
        return self.first.owner

    @property
    def symbol(self) -> str:
        """Symbol of both orders."""
        return self.first.symbol

    @property
    def side(self) -> Side:
        """Side of both orders."""
        return self.first.side

    @property
    def quantity(self) -> int:
        """Lots of each order."""
        return self.first.quantity


class Cancel(_Body):
    """Take an open order out. Told again after a lost answer, it is rejected as `unknown_order`."""

    kind: Literal["cancel"] = "cancel"
    owner: OwnerId
    symbol: Symbol
    order_id: OrderId


class Replace(_Body):
    """Change an open order."""

    kind: Literal["replace"] = "replace"
    owner: OwnerId
    symbol: Symbol
    order_id: OrderId
    quantity: Lots
    """New total, with what was executed already."""
    price: Ticks = 0
    """0 keeps the price."""
    stop_price: Ticks = 0
    """0 keeps the price."""


class CancelAll(_Body):
    """Take every open order of an owner out; without an owner everybody's, without a symbol in all."""

    kind: Literal["cancel_all"] = "cancel_all"
    owner: Annotated[str, Field(max_length=80, pattern=r"^[\x21-\x7e]*$")]
    symbol: Symbol | None = None


class SetPhase(_Body):
    """Halt, resume, collect for an auction, allow cancels only."""

    kind: Literal["set_phase"] = "set_phase"
    symbol: Symbol
    phase: PhaseName


class CancelAfter(_Body):
    """Cancel all orders of an owner unless this comes again in time."""

    kind: Literal["cancel_after"] = "cancel_after"
    owner: OwnerId
    seconds: Annotated[int, Field(ge=0, le=LONGEST_CANCEL_AFTER, strict=True)]
    """0 switches it off."""


Command = Annotated[
    Place | Oco | Cancel | Replace | CancelAll | SetPhase | CancelAfter, Field(discriminator="kind")
]


class OrderState(_Body):
    """An order right after the command, or, for a repeated one, right after the first."""

    order_id: OrderId
    client_order_id: str
    symbol: str
    status: Status
    """`waiting` is for a stop price; a partially filled order is still open."""
    filled: Ticks
    """Lots."""
    remaining: Ticks
    """Lots that are still open."""
    reason: str = ""
    """Why it is cancelled or rejected."""
    created_at: Milliseconds


class Result(_Body):
    """The answer to one command."""

    kind: Literal["place", "oco", "cancel", "replace", "cancel_all", "set_phase", "cancel_after"]
    code: Literal["ok", "rejected"]
    reason: str = ""
    orders: tuple[OrderState, ...] = ()
    """The order that was placed, cancelled or changed; both of a pair."""
    repeated: bool = False
    """Whether this was answered before."""


class Level(_Body):
    """All that rests at one price."""

    price: Ticks
    quantity: Ticks


class Depth(_Body):
    """The best levels of a book."""

    symbol: str
    sequence: Ticks
    """Of the last change in it."""
    phase: PhaseName
    last_price: Ticks
    """Of the last trade; 0 before the first."""
    bids: tuple[Level, ...]
    """Highest first."""
    asks: tuple[Level, ...]
    """Lowest first."""


class PublishedBooks(_Body):
    """Every book as it was published in `book.updates` last."""

    books: tuple[BookUpdated, ...]
    """Snapshots, with the epoch and seq of that publication. A book that is missing comes on the bus."""


class Republish(_Body):
    """Publish the changes of a symbol behind a sequence again."""

    symbol: Symbol
    after: Ticks


Commands = Annotated[list[Command], Field(min_length=1, max_length=LARGEST_BATCH)]
Results = list[Result | None]
"""One for each command, in their order; None: not carried out, or not known to be, ask again."""
COMMANDS: Final[TypeAdapter[list[Command]]] = TypeAdapter(Commands)
RESULTS: Final[TypeAdapter[list[Result | None]]] = TypeAdapter(Results)
