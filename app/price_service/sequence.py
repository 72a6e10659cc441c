"""Whether a tick continues what was seen before."""

from enum import StrEnum


class Verdict(StrEnum):
    """How a tick stands to the one before it."""

    FIRST = "first"
    """Nothing was known of the symbol."""
    NEXT = "next"
    REPEATED = "repeated"
    """At or before what was seen."""
    GAP = "gap"
    """At least one number was left out."""
    NEW_EPOCH = "new-epoch"


class SequenceTracker:
    """Remembers the last (epoch, seq) of each symbol."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int]] = {}

    def observe(self, symbol: str, epoch: str, seq: int) -> Verdict:
        """Judge a tick and, unless it is repeated, remember it."""
        before = self._last.get(symbol)
        if before is not None and before[0] == epoch and seq <= before[1]:
            return Verdict.REPEATED
        self._last[symbol] = (epoch, seq)
        if before is None:
            return Verdict.FIRST
        if before[0] != epoch:
            return Verdict.NEW_EPOCH
        return Verdict.NEXT if seq == before[1] + 1 else Verdict.GAP
