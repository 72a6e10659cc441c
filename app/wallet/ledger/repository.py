"""SQL of the ledger: every statement takes a whole batch, accounts are locked in the order of their names."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    CursorResult,
    Select,
    String,
    literal,
    select,
    true,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.kit.bulk import all_at_once, document, insert_rows, per_row, rows, table_of
from app.kit.database import Base, Database
from app.wallet.ledger.accounts import Account, AccountKind
from app.wallet.ledger.book import Answered, Book, Hold, HoldState
from app.wallet.ledger.models import AccountRow, AssetRow, HoldRow, PostingRow, TransferRow
from app.wallet.ledger.transfers import Code, Transfer

_ACCOUNT = ("id", "owner", "asset", "kind", "balance")
_TRANSFER = ("id", "kind", "fingerprint", "code", "amount", "hold_id", "reference", "created_at")
_POSTING = (
    "transfer_id",
    "source_id",
    "target_id",
    "amount",
    "source_balance",
    "target_balance",
    "created_at",
)
_HOLD = ("id", "source_id", "target_id", "amount", "posted", "released", "state", "expires_at")


class Contended(Exception):
    """Another transaction used one of the same new ids at the same time: to be tried again as a whole."""


class Entry(NamedTuple):
    """A posting as one of its accounts sees it."""

    posting_id: int
    transfer_id: str
    kind: str
    reference: str
    amount: int
    """Negative when it went out."""
    balance: int
    """After it."""
    created_at: int


class LedgerRepository:
    """Accounts, transfers, postings and holds. Statements are built once; see `app.kit.bulk`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        ids = rows(database, id=String(120))
        self._open = _open_statement(database)
        self._lock = _lock_statement(database)
        self._answered = per_row(
            database,
            ids,
            select(TransferRow.id, TransferRow.fingerprint, TransferRow.code, TransferRow.amount),
            {"id": TransferRow.id},
        )
        self._holds = per_row(database, ids, _hold_columns(), {"id": HoldRow.id})
        self._hold_states = per_row(
            database,
            ids,
            select(HoldRow.id, HoldRow.amount, HoldRow.posted, HoldRow.released, HoldRow.state),
            {"id": HoldRow.id},
        )
        self._add_transfers = insert_rows(
            database, table_of(TransferRow), _TRANSFER, order="id", parameter="transfers"
        ).on_conflict_do_nothing()
        self._save = (
            insert_rows(database, table_of(PostingRow), _POSTING, order="place", parameter="postings"),
            _save_holds_statement(database),
            _save_balances_statement(database),
        )
        self._save_all = all_at_once(self._add_transfers, *self._save) if database.is_postgresql else None

    async def pin_scales(self, session: AsyncSession, scales: Mapping[str, int]) -> dict[str, int]:
        """Remember the scale of assets that are new; returns the scales that amounts are stored in."""
        for code, scale in sorted(scales.items()):
            statement = self._database.insert(AssetRow).values(code=code, scale=scale)
            await session.execute(statement.on_conflict_do_nothing())
        found = await session.execute(select(AssetRow.code, AssetRow.scale))
        return {row.code: row.scale for row in found}

    async def open_accounts(self, session: AsyncSession, accounts: Iterable[Account]) -> None:
        """Make the accounts that are not there yet."""
        wanted = enumerate(sorted(accounts))
        await session.execute(
            self._open, document({"place": n, "balance": 0, **account._asdict()} for n, account in wanted)
        )

    async def named_holds(self, session: AsyncSession, ids: Iterable[str]) -> dict[str, Hold]:
        """Holds by id."""
        found = await session.execute(self._holds, document({"id": id} for id in ids))
        return {row.id: _hold(row) for row in found}

    async def current_holds(
        self, session: AsyncSession, ids: Iterable[str], known: Mapping[str, Hold]
    ) -> dict[str, Hold]:
        """Holds by id, as they are now; accounts and expiry of the known ones never change.

        Raises:
            Contended: another transaction made one of them since.
        """
        found = (await session.execute(self._hold_states, document({"id": id} for id in ids))).all()
        if any(row.id not in known for row in found):
            raise Contended("a hold that this batch names was made by another transaction just now")
        return {
            id: known[id]._replace(amount=amount, posted=posted, released=released, state=HoldState(state))
            for id, amount, posted, released, state in found
        }

    async def lock(
        self, session: AsyncSession, accounts: Iterable[Account]
    ) -> dict[Account, tuple[int, int]]:
        """Id and balance of the accounts that exist, locked to the end of the transaction."""
        found = await session.execute(self._lock, document(account._asdict() for account in set(accounts)))
        return {
            Account(owner, asset, AccountKind(kind)): (id, balance)
            for id, owner, asset, kind, balance in found
        }

    async def answered(self, session: AsyncSession, ids: Iterable[str]) -> dict[str, Answered]:
        """What the ledger knows of transfers."""
        found = await session.execute(self._answered, document({"id": id} for id in ids))
        return {id: Answered(fingerprint, Code(code), amount) for id, fingerprint, code, amount in found}

    async def save(self, session: AsyncSession, book: Book, ids: Mapping[Account, int]) -> None:
        """Write what a batch changed; `ids` has every account of the book.

        Raises:
            Contended: one of the transfers was added by a transaction that ended just now.
        """
        if not book.new:
            return
        documents = document(
            (_transfer(transfer, answer, book.now) for transfer, answer in book.new.values()), "transfers"
        )
        if book.postings:
            documents |= _changes(book, ids)
        if await self._write(session, documents) != len(book.new):
            raise Contended("a transfer of this batch was made by another transaction")

    async def _write(self, session: AsyncSession, documents: Mapping[str, str]) -> int:
        """Write the rows of the documents; returns how many transfers are new."""
        if self._save_all is not None and len(documents) > 1:
            return int((await session.execute(self._save_all, documents)).scalar_one())
        added = await session.execute(self._add_transfers, {"transfers": documents["transfers"]})
        if len(documents) > 1:
            for name, statement in zip(("postings", "holds", "balances"), self._save, strict=True):
                await session.execute(statement, {name: documents[name]})
        return added.rowcount if isinstance(added, CursorResult) else 0

    async def due_holds(self, session: AsyncSession, now: int, limit: int) -> Sequence[str]:
        """Holds whose time is over, the oldest first."""
        due = (
            select(HoldRow.id)
            .where(HoldRow.state == HoldState.PENDING.value, HoldRow.expires_at <= now)
            .order_by(HoldRow.expires_at, HoldRow.id)
            .limit(limit)
        )
        return (await session.scalars(due)).all()

    async def balances(self, session: AsyncSession, owner: str) -> dict[Account, int]:
        """Every account of an owner."""
        found = await session.execute(
            select(AccountRow.asset, AccountRow.kind, AccountRow.balance).where(AccountRow.owner == owner)
        )
        return {Account(owner, asset, AccountKind(kind)): balance for asset, kind, balance in found}

    async def entries(
        self, session: AsyncSession, account: Account, before: int | None, limit: int
    ) -> list[Entry]:
        """The newest `limit` postings of an account with an id below `before`, the newest first."""
        chosen = select(AccountRow.id).where(
            AccountRow.owner == account.owner,
            AccountRow.asset == account.asset,
            AccountRow.kind == account.kind.value,
        )
        id = await session.scalar(chosen)
        if id is None:
            return []
        sides = [
            select(PostingRow.id, (sign * PostingRow.amount).label("amount"), balance.label("balance"))
            .where(mine == id, PostingRow.id < before if before is not None else true())
            .order_by(PostingRow.id.desc())
            .limit(limit)
            .subquery()
            for sign, mine, balance in (
                (literal(-1, BigInteger), PostingRow.source_id, PostingRow.source_balance),
                (literal(1, BigInteger), PostingRow.target_id, PostingRow.target_balance),
            )
        ]
        both = union_all(*(select(side) for side in sides)).subquery()
        found = await session.execute(
            select(
                both.c.id,
                TransferRow.id,
                TransferRow.kind,
                TransferRow.reference,
                both.c.amount,
                both.c.balance,
                PostingRow.created_at,
            )
            .join(PostingRow, PostingRow.id == both.c.id)
            .join(TransferRow, TransferRow.id == PostingRow.transfer_id)
            .order_by(both.c.id.desc())
            .limit(limit)
        )
        return [Entry(*row) for row in found]


def _changes(book: Book, ids: Mapping[Account, int]) -> dict[str, str]:
    """What a batch changed beside its transfers; `ids` has every account of the book."""
    postings = (
        {
            "place": place,
            "transfer_id": posting.transfer_id,
            "source_id": ids[posting.source],
            "target_id": ids[posting.target],
            "amount": posting.amount,
            "source_balance": posting.source_balance,
            "target_balance": posting.target_balance,
            "created_at": book.now,
        }
        for place, posting in enumerate(book.postings)
    )
    balances = (
        {"id": ids[account], "balance": balance, **account._asdict()}
        for account, balance in book.changed_balances.items()
    )
    return {
        **document(postings, "postings"),
        **document((_hold_values(hold, ids) for hold in book.changed_holds), "holds"),
        **document(balances, "balances"),
    }


def _transfer(transfer: Transfer, answer: Answered, now: int) -> dict[str, object]:
    return {
        "id": transfer.id,
        "kind": transfer.kind.value,
        "fingerprint": answer.fingerprint,
        "code": answer.code.value,
        "amount": answer.amount,
        "hold_id": transfer.hold_id,
        "reference": transfer.reference,
        "created_at": now,
    }


def _hold_values(hold: Hold, ids: Mapping[Account, int]) -> dict[str, object]:
    return {
        "id": hold.id,
        "source_id": ids[hold.source],
        "target_id": None if hold.target is None else ids[hold.target],
        "amount": hold.amount,
        "posted": hold.posted,
        "released": hold.released,
        "state": hold.state.value,
        "expires_at": hold.expires_at,
    }


def _hold(row: Any) -> Hold:
    target = (
        Account(row.target_owner, row.target_asset, AccountKind(row.target_kind)) if row.target_kind else None
    )
    return Hold(
        row.id,
        Account(row.owner, row.asset, AccountKind(row.kind)),
        target,
        row.amount,
        row.posted,
        row.released,
        HoldState(row.state),
        row.expires_at,
    )


def _columns(table: type[Base], names: Iterable[str]) -> dict[str, Any]:
    return {name: table_of(table).c[name].type for name in names}


def _open_statement(database: Database) -> Any:
    names = ("owner", "asset", "kind", "balance")
    return insert_rows(database, table_of(AccountRow), names, order="place").on_conflict_do_nothing()


def _lock_statement(database: Database) -> Any:
    names = ("owner", "asset", "kind")
    given = rows(database, **_columns(AccountRow, names))
    chosen = select(AccountRow.id, AccountRow.owner, AccountRow.asset, AccountRow.kind, AccountRow.balance)
    keys = {name: getattr(AccountRow, name) for name in names}
    return per_row(database, given, chosen, keys, lock=True)


def _hold_columns() -> Select[*tuple[Any, ...]]:
    source, target = aliased(AccountRow), aliased(AccountRow)
    return (
        select(
            HoldRow.id,
            HoldRow.amount,
            HoldRow.posted,
            HoldRow.released,
            HoldRow.state,
            HoldRow.expires_at,
            source.owner,
            source.asset,
            source.kind,
            target.owner.label("target_owner"),
            target.asset.label("target_asset"),
            target.kind.label("target_kind"),
        )
        .join(source, source.id == HoldRow.source_id)
        .outerjoin(target, target.id == HoldRow.target_id)
    )


def _save_holds_statement(database: Database) -> Any:
    statement = insert_rows(database, table_of(HoldRow), _HOLD, order="id", parameter="holds")
    changes = {name: getattr(statement.excluded, name) for name in ("amount", "posted", "released", "state")}
    return statement.on_conflict_do_update(index_elements=["id"], set_=changes)


def _save_balances_statement(database: Database) -> Any:
    """All accounts exist: an upsert finds each of them by the index on `id`, see `per_row`."""
    statement = insert_rows(database, table_of(AccountRow), _ACCOUNT, order="id", parameter="balances")
    return statement.on_conflict_do_update(
        index_elements=["id"], set_={"balance": statement.excluded.balance}
    )
