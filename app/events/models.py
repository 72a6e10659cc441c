"""Tables of event streams."""

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.database import Base


class StreamPositionRow(Base):
    """How far a consumer has come in one symbol's part of the matching engine's output."""

    __tablename__ = "stream_positions"

    consumer: Mapped[str] = mapped_column(String(80), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    """Last sequence whose effect is in the database; 0 for none."""
    seen: Mapped[int] = mapped_column(BigInteger)
    """Largest sequence that came by; above `sequence` while something in between is missing."""
