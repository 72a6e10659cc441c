"""Tables of risk. Times are Unix milliseconds, quantities lots, money of limits whole units of the quote."""

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.database import Base

_LIVE = text("state IN ('called', 'cancelling', 'selling')")


class LimitsVersionRow(Base):
    """One row that counts the changes of limits and switches; who changes one locks it."""

    __tablename__ = "risk_version"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(BigInteger)


class LimitRow(Base):
    """Limits of a scope; an empty owner or symbol stands for all of them. See `app.risk.limits.Values`."""

    __tablename__ = "risk_limits"

    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    position: Mapped[int | None] = mapped_column(BigInteger)
    order_notional: Mapped[int | None] = mapped_column(BigInteger)
    open_notional: Mapped[int | None] = mapped_column(BigInteger)
    collar_bps: Mapped[int | None] = mapped_column(Integer)
    order_rate: Mapped[int | None] = mapped_column(Integer)
    order_burst: Mapped[int | None] = mapped_column(Integer)
    daily_loss: Mapped[int | None] = mapped_column(BigInteger)


class SwitchRow(Base):
    """A kill switch that is on."""

    __tablename__ = "risk_switches"

    scope: Mapped[str] = mapped_column(String(8), primary_key=True)
    """`all`, `symbol`, `user`, or `margin`: a user whose positions are being closed."""
    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    """Symbol or user; empty for `all`."""
    reason: Mapped[str] = mapped_column(String(200))
    actor: Mapped[str] = mapped_column(String(80))
    since: Mapped[int] = mapped_column(BigInteger)


class AuditRow(Base):
    """A change of a limit or a switch; never changed itself."""

    __tablename__ = "risk_audit"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    at: Mapped[int] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(String(80))
    """User id of the operator; `risk` for what the platform did by itself."""
    subject: Mapped[str] = mapped_column(String(120), index=True)
    """As in the path of the endpoint, such as `limits/user/X` or `kill-switches/all`."""
    before: Mapped[str | None] = mapped_column(Text)
    """JSON; null when there was none."""
    after: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(String(200))


class PositionRow(Base):
    """Net position of a user in a symbol, see `app.risk.day.DayPosition`."""

    __tablename__ = "risk_positions"

    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    lots: Mapped[int] = mapped_column(BigInteger)
    day: Mapped[int] = mapped_column(Integer)
    start: Mapped[int] = mapped_column(BigInteger)
    cash: Mapped[str] = mapped_column(String(60))
    """Decimal digits: ticks times lots may be beyond 64 bits."""


class PriceRow(Base):
    """Last trade of a symbol, see `app.risk.day.DayPrice`."""

    __tablename__ = "risk_prices"

    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    last: Mapped[int] = mapped_column(BigInteger)
    day: Mapped[int] = mapped_column(Integer)
    open: Mapped[int] = mapped_column(BigInteger)


class AlertRow(Base):
    """Something that was told and still holds, so that it is told once."""

    __tablename__ = "risk_alerts"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    subject: Mapped[str] = mapped_column(String(40), primary_key=True)
    """Symbol, or currency and day."""
    at: Mapped[int] = mapped_column(BigInteger)


class MarginCallRow(Base):
    """A margin call and the forced close that may follow; money in smallest units of US dollars."""

    __tablename__ = "risk_margin_calls"
    __table_args__ = (
        CheckConstraint("step >= 0", name="steps"),
        Index(
            "ix_risk_margin_calls_live",
            "owner",
            unique=True,
            postgresql_where=_LIVE,
            sqlite_where=_LIVE,
        ),
        Index("ix_risk_margin_calls_owner_id", "owner", "id"),
    )

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    owner: Mapped[str] = mapped_column(String(80))
    state: Mapped[str] = mapped_column(String(12))
    step: Mapped[int] = mapped_column(Integer)
    """Number of the newest step of the forced close; 0 before the first."""
    deadline: Mapped[int] = mapped_column(BigInteger)
    equity: Mapped[int] = mapped_column(BigInteger)
    """When the call went out, as the next two."""
    debt: Mapped[int] = mapped_column(BigInteger)
    required: Mapped[int] = mapped_column(BigInteger)
    """Equity that maintenance asks for."""
    opened_at: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[int] = mapped_column(BigInteger)


class ClosingStepRow(Base):
    """One order of a forced close, written before it is sent."""

    __tablename__ = "risk_closing_steps"

    call_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(8))
    """`trade` or `repay`."""
    state: Mapped[str] = mapped_column(String(8))
    """`planned`, `sent` (its funds are being settled) or `done`."""
    symbol: Mapped[str] = mapped_column(String(20))
    """Asset of the loan for `repay`."""
    side: Mapped[str] = mapped_column(String(4))
    quantity: Mapped[int] = mapped_column(BigInteger)
    """Lots; smallest units for `repay`."""
    order_id: Mapped[int] = mapped_column(BigInteger)
    filled: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(String(60))
    at: Mapped[int] = mapped_column(BigInteger)
