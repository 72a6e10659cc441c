"""Tables of the matching engine."""

from sqlalchemy import BigInteger, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.database import Base
from app.kit.lease import LeaseRow

__all__ = ["DeadManSwitchRow", "JournalRow", "LeaseRow", "ProgressRow", "SnapshotRow", "TradingAccountRow"]


class JournalRow(Base):
    """One group of commands that was committed; batches rise by one from 1 without gaps."""

    __tablename__ = "matching_journal"

    batch: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    token: Mapped[int] = mapped_column(BigInteger)
    """Of the lease that its writer held."""
    at: Mapped[int] = mapped_column(BigInteger)
    """Time of its commands, Unix milliseconds."""
    commands: Mapped[int] = mapped_column(Integer)
    records: Mapped[bytes] = mapped_column(LargeBinary)
    """See `app.matching.journal`."""


class SnapshotRow(Base):
    """The whole state after a batch."""

    __tablename__ = "matching_snapshots"

    batch: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[int] = mapped_column(BigInteger)
    sequences: Mapped[str] = mapped_column(Text)
    """Sequence of the last change of each symbol, as JSON."""
    state: Mapped[bytes] = mapped_column(LargeBinary)
    """See `app.matching.books`, compressed with zlib."""


class TradingAccountRow(Base):
    """Number by which the order books know an owner."""

    __tablename__ = "trading_accounts"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(String(80), unique=True)


class ProgressRow(Base):
    """How far something came."""

    __tablename__ = "matching_progress"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    batch: Mapped[int] = mapped_column(BigInteger)


class DeadManSwitchRow(Base):
    """An owner whose orders are cancelled unless they are heard of before the deadline."""

    __tablename__ = "dead_man_switches"

    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    deadline_ms: Mapped[int] = mapped_column(BigInteger)
