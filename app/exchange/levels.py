"""Orders in price-time priority: a first-in-first-out queue per price, prices sorted best last."""

from bisect import bisect_left, insort

from app.exchange.commands import Place


class Order:
    """An order that is open or about to trade."""

    __slots__ = ("account", "entry", "level", "next", "order_id", "partner", "previous", "remaining", "terms")

    def __init__(self, terms: Place, order_id: int, account: int, remaining: int) -> None:
        self.terms = terms
        self.order_id = order_id
        self.account = account
        self.remaining = remaining
        """Open lots; 0 once the order is done."""
        self.entry = 0
        """Time priority: the smaller, the earlier."""
        self.level: PriceLevel | None = None
        self.previous: Order | None = None
        self.next: Order | None = None
        self.partner: Order | None = None
        """The other order of an OCO pair."""


class PriceLevel:
    """The queue of one price."""

    __slots__ = ("head", "key", "quantity", "side", "tail")

    def __init__(self, side: "BookSide", key: int) -> None:
        self.side = side
        self.key = key
        self.quantity = 0
        """Open lots of all orders."""
        self.head: Order | None = None
        self.tail: Order | None = None


class BookSide:
    """The levels of one side.

    Levels are known by a key in which better is larger: the price times `sign` (1: high prices are better, as
    for bids; -1: low prices are better, as for asks). So the best level is the last one, and most changes
    happen at the cheap end of the sorted list.
    """

    __slots__ = ("keys", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        """Keys of all levels, ascending; no level is empty."""
        self.levels: dict[int, PriceLevel] = {}

    def append(self, order: Order, price: int) -> None:
        """Put an order behind all others at a price."""
        key = price * self.sign
        level = self.levels.get(key)
        if level is None:
            level = PriceLevel(self, key)
            self.levels[key] = level
            insort(self.keys, key)
            level.head = order
        else:
            tail = level.tail
            order.previous = tail
            if tail is not None:
                tail.next = order
        level.tail = order
        level.quantity += order.remaining
        order.level = level

    def best_price(self) -> int:
        """Price of the best level in ticks; 0 when the side is empty."""
        return self.keys[-1] * self.sign if self.keys else 0

    def depth(self, limit: int) -> list[tuple[int, int]]:
        """(price, open lots) of up to `limit` levels, best first."""
        keys = self.keys[: -limit - 1 : -1] if limit > 0 else []
        return [(key * self.sign, self.levels[key].quantity) for key in keys]


def unlink(order: Order) -> None:
    """Take an order out of its level, and the level out of its side when it was the last."""
    level = order.level
    if level is None:
        return
    previous = order.previous
    following = order.next
    if previous is None:
        level.head = following
    else:
        previous.next = following
        order.previous = None
    if following is None:
        level.tail = previous
    else:
        following.previous = previous
        order.next = None
    level.quantity -= order.remaining
    order.level = None
    if level.head is None:
        side = level.side
        key = level.key
        keys = side.keys
        del side.levels[key]
        if keys[-1] == key:
            keys.pop()
        else:
            del keys[bisect_left(keys, key)]
