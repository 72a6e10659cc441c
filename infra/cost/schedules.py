"""What a weekly schedule of start and stop times comes to."""

import re
from collections.abc import Sequence
from decimal import Decimal

_WEEK = 7 * 24 * 60
_NAMES = {name: day for day, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}

HOURS_OF_A_WEEK = Decimal(24 * 7)

OFFICE_SHARE = Decimal(12 * 5) / HOURS_OF_A_WEEK
"""Share of a week that 12 hours on 5 days are."""


def times(expression: str) -> list[int]:
    """Minutes of the week, from Sunday 00:00, at which a cron expression fires.

    Five fields are Unix cron (days 0-7, Sunday 0), `cron(…)` with six is EventBridge's (days 1-7, Sunday 1).

    Raises:
        ValueError: the expression is no weekly schedule.
    """
    inner = re.fullmatch(r"cron\((.*)\)", expression.strip())
    fields = (inner.group(1) if inner else expression).split()
    if len(fields) != (6 if inner else 5):
        raise ValueError(f"'{expression}': not a cron expression")
    minutes, hours, day_of_month, month, days = fields[:5]
    if day_of_month not in "*?" or month != "*" or (inner and fields[5] != "*"):
        raise ValueError(f"'{expression}': only schedules by day of the week can be counted")
    found_days = {day % 7 for day in _field(days, 0, 7, shift=-1 if inner else 0)}
    return sorted(
        day * 1440 + hour * 60 + minute
        for day in found_days
        for hour in _field(hours, 0, 23)
        for minute in _field(minutes, 0, 59)
    )


def weekly_average(events: Sequence[tuple[int, Decimal]]) -> Decimal:
    """Average over a week of a value that each event, at a minute of the week, sets.

    Raises:
        ValueError: there is no event.
    """
    if not events:
        raise ValueError("a schedule without events has no average")
    ordered = sorted(events)
    total = Decimal(0)
    for (start, value), (end, _) in zip(
        ordered, [*ordered[1:], (ordered[0][0] + _WEEK, Decimal(0))], strict=True
    ):
        total += value * (end - start)
    return total / _WEEK


def _field(text: str, low: int, high: int, *, shift: int = 0) -> set[int]:
    if text in ("*", "?"):
        return set(range(low, high + 1))
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin = low if first == "*" else _number(first, shift)
        end = high if first == "*" else _number(last, shift) if last else begin
        found.update(range(begin, end + 1, int(step or 1)))
    if not found or min(found) < low or max(found) > high:
        raise ValueError(f"'{text}' is outside {low}-{high}")
    return found


def _number(text: str, shift: int) -> int:
    name = text.upper()
    return _NAMES[name] if name in _NAMES else int(text) + shift
