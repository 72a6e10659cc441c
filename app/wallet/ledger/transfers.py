"""Transfers: what clients ask of the ledger, and what it answers (after TigerBeetle's model).

The client makes the id. The ledger keeps the first answer to it: the same transfer again changes nothing and
is told that answer, another transfer with that id is told of the conflict.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Self

from app.wallet.ledger.accounts import Account, AccountKind
from app.wallet.ledger.assets import LARGEST

LONGEST_ID = 100
LONGEST_REFERENCE = 120
LARGEST_BATCH = 1_000_000
"""What the parameter of one statement carries; PostgreSQL takes a gigabyte."""
LONGEST_TIMEOUT = 366 * 86_400
"""Seconds."""


class Kind(StrEnum):
    """What a transfer does."""

    MOVE = "move"
    """Amount from source to target, at once."""
    HOLD = "hold"
    """Amount of the source is set aside, to be posted, voided or to expire."""
    POST = "post"
    """Amount of a hold goes to the target; the rest goes back to the source unless the hold is kept."""
    GROW = "grow"
    """Amount more of the source is set aside by a hold that exists."""
    SHRINK = "shrink"
    """Amount of what is left of a hold goes back to its source; the hold is that much smaller."""
    VOID = "void"
    """All that is left of a hold goes back to its source."""
    EXPIRE = "expire"
    """As void, for a hold whose time is over; made by the ledger itself."""


class Code(StrEnum):
    """What became of a transfer."""

    OK = "ok"
    EXISTS = "exists"
    """It was done before, with this content."""
    CONFLICT = "exists_with_different_content"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    BALANCE_OVERFLOW = "balance_overflow"
    UNKNOWN_ACCOUNT = "unknown_account"
    UNKNOWN_HOLD = "unknown_hold"
    ALREADY_POSTED = "already_posted"
    ALREADY_VOIDED = "already_voided"
    EXPIRED = "expired"
    NOT_EXPIRED = "not_expired"
    AMOUNT_EXCEEDS_PENDING = "amount_exceeds_pending"
    TARGET_MISMATCH = "target_mismatch"
    """The post names another target than the hold, none of them names one, or it is of another asset."""
    LINKED_FAILED = "linked_failed"
    """Another transfer of the chain failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One transfer; made by `move`, `hold`, `post`, `grow`, `shrink` and `void`, which say what is needed.

    With `linked` it forms a chain with the one after it: all of a chain happens or nothing. `reference` is
    for people and other domains, such as `trade:BTC-USD:17`.
    """

    id: str
    kind: Kind
    source: Account | None = None
    target: Account | None = None
    amount: int | None = None
    hold_id: str | None = None
    timeout: int | None = None
    keep: bool = False
    linked: bool = False
    reference: str = ""

    @classmethod
    def move(
        cls,
        id: str,
        source: Account,
        target: Account,
        amount: int,
        *,
        linked: bool = False,
        reference: str = "",
    ) -> Self:
        """Move an amount at once.

        Raises:
            ValueError: amount, id, reference or accounts cannot be those of any transfer.
        """
        _check(id, reference, amount)
        if source == target or source.asset != target.asset:
            raise ValueError(f"{id}: {source} and {target} have to be two accounts of one asset")
        if AccountKind.HELD in (source.kind, target.kind):
            raise ValueError(f"{id}: held funds move by their holds only")
        return cls(
            id=id,
            kind=Kind.MOVE,
            source=source,
            target=target,
            amount=amount,
            linked=linked,
            reference=reference,
        )

    @classmethod
    def hold(
        cls,
        id: str,
        source: Account,
        amount: int,
        *,
        target: Account | None = None,
        timeout: int | None = None,
        linked: bool = False,
        reference: str = "",
    ) -> Self:
        """Set an amount of a user's free funds aside, for `target` or for whom the posts name.

        It expires after `timeout` seconds; without one it never does.

        Raises:
            ValueError: as `move`; the source is no free account; the timeout is out of bounds.
        """
        _check(id, reference, amount)
        if source.kind is not AccountKind.AVAILABLE:
            raise ValueError(f"{id}: only available funds can be held")
        if target is not None and (target.asset != source.asset or target.kind is AccountKind.HELD):
            raise ValueError(f"{id}: {target} cannot get what is held of {source}")
        if timeout is not None and not 1 <= timeout <= LONGEST_TIMEOUT:
            raise ValueError(f"{id}: a timeout has 1 to {LONGEST_TIMEOUT} seconds")
        return cls(
            id=id,
            kind=Kind.HOLD,
            source=source,
            target=target,
            amount=amount,
            timeout=timeout,
            linked=linked,
            reference=reference,
        )

    @classmethod
    def post(
        cls,
        id: str,
        hold_id: str,
        amount: int | None = None,
        *,
        target: Account | None = None,
        keep: bool = False,
        linked: bool = False,
        reference: str = "",
    ) -> Self:
        """Give an amount of a hold, all that is left without one, to the hold's target or to `target`.

        The rest goes back to the source, unless `keep` says that more posts will come.

        Raises:
            ValueError: as `move`.
        """
        _check(id, reference, amount if amount is not None else 1)
        if target is not None and target.kind is AccountKind.HELD:
            raise ValueError(f"{id}: held funds come from holds only")
        return cls(
            id=id,
            kind=Kind.POST,
            target=target,
            amount=amount,
            hold_id=hold_id,
            keep=keep,
            linked=linked,
            reference=reference,
        )

    @classmethod
    def void(cls, id: str, hold_id: str, *, linked: bool = False, reference: str = "") -> Self:
        """Give all that is left of a hold back to its source; raises ValueError as `move`."""
        _check(id, reference, 1)
        return cls(id=id, kind=Kind.VOID, hold_id=hold_id, linked=linked, reference=reference)

    @classmethod
    def grow(cls, id: str, hold_id: str, amount: int, *, linked: bool = False, reference: str = "") -> Self:
        """Set an amount more aside by a hold; raises ValueError as `move`."""
        _check(id, reference, amount)
        return cls(id=id, kind=Kind.GROW, amount=amount, hold_id=hold_id, linked=linked, reference=reference)

    @classmethod
    def shrink(cls, id: str, hold_id: str, amount: int, *, linked: bool = False, reference: str = "") -> Self:
        """Give an amount of what is left of a hold back to its source; raises ValueError as `move`."""
        _check(id, reference, amount)
        return cls(
            id=id, kind=Kind.SHRINK, amount=amount, hold_id=hold_id, linked=linked, reference=reference
        )

    @property
    def fingerprint(self) -> int:
        """A number of 63 bits that stands for the content; the same content has the same in every process."""
        content = repr(
            (
                self.kind.value,
                self.source and tuple(map(str, self.source)),
                self.target and tuple(map(str, self.target)),
                self.amount,
                self.hold_id,
                self.timeout,
                self.keep,
                self.linked,
                self.reference,
            )
        )
        return int.from_bytes(blake2b(content.encode(), digest_size=8).digest()) >> 1


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one transfer."""

    id: str
    code: Code
    amount: int = 0
    """What was moved, held, posted or given back; 0 when it failed."""

    @property
    def done(self) -> bool:
        """Whether the transfer happened, now or before."""
        return self.code in (Code.OK, Code.EXISTS)


def chains(transfers: Sequence[Transfer]) -> Iterator[list[Transfer]]:
    """A batch as its chains; a transfer that is not linked is a chain of its own.

    Raises:
        ValueError: the batch is too large, ends within a chain, or a chain has an id twice.
    """
    if len(transfers) > LARGEST_BATCH:
        raise ValueError(f"a batch has at most {LARGEST_BATCH} transfers")
    chain: list[Transfer] = []
    for transfer in transfers:
        chain.append(transfer)
        if not transfer.linked:
            if len({other.id for other in chain}) < len(chain):
                raise ValueError(f"the chain that ends with {transfer.id} has an id twice")
            yield chain
            chain = []
    if chain:
        raise ValueError(f"{chain[-1].id} is linked to a transfer after it, but is the last one")


def _check(id: str, reference: str, amount: int) -> None:
    if not 1 <= len(id) <= LONGEST_ID:
        raise ValueError(f"an id has 1 to {LONGEST_ID} characters")
    if len(reference) > LONGEST_REFERENCE:
        raise ValueError(f"{id}: a reference has at most {LONGEST_REFERENCE} characters")
    if not 1 <= amount <= LARGEST:
        raise ValueError(f"{id}: an amount is 1 to {LARGEST}, not {amount}")
