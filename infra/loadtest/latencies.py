"""Latencies of a run: all of them are kept, so percentiles are exact."""

import math
from array import array
from collections.abc import Sequence
from typing import Any

_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "p9999": 0.9999}
_SLICES = 120
_RECENT = 1000
_STEPS_PER_DECADE = 20


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the sorted values that at least `share` (0 to 1) of them do not exceed."""
    # Rounding keeps 0.99 of 100 from being a little more than 99.
    return ordered[max(math.ceil(round(share * len(ordered), 6)) - 1, 0)]


class Latencies:
    """Pairs of a moment (seconds after the beginning) and a latency in milliseconds."""

    def __init__(self) -> None:
        self.at = array("f")
        self.ms = array("d")

    def __len__(self) -> int:
        return len(self.ms)

    def add(self, at: float, ms: float) -> None:
        """Keep one latency of something that was due at `at`."""
        self.at.append(at)
        self.ms.append(ms)

    def summary(self) -> dict[str, Any]:
        """Count, least, mean, percentiles and greatest in milliseconds; None where there is no value."""
        ordered = sorted(self.ms)
        if not ordered:
            return {"count": 0, **dict.fromkeys(("min", "mean", *_SHARES, "max"))}
        found = {
            "min": ordered[0],
            "mean": math.fsum(ordered) / len(ordered),
            **{name: percentile(ordered, share) for name, share in _SHARES.items()},
            "max": ordered[-1],
        }
        return {"count": len(ordered), **{name: round(value, 3) for name, value in found.items()}}

    def recent(self) -> str:
        """p99 of the last values, in words."""
        values = sorted(self.ms[-_RECENT:])
        return f"p99 {percentile(values, 0.99):.1f} ms" if values else "nothing timed yet"

    def curve(self) -> list[tuple[float, float]]:
        """(percentile from 0 to 100, milliseconds), closer together the nearer to 100.

        Ends where one more step would leave less than one value beyond it.
        """
        ordered = sorted(self.ms)
        points = []
        for step in range(10 * _STEPS_PER_DECADE):
            beyond: float = 10 ** (-step / _STEPS_PER_DECADE)
            if beyond * len(ordered) < 1:
                break
            points.append((round(100 * (1 - beyond), 7), round(percentile(ordered, 1 - beyond), 3)))
        return points

    def over_time(self) -> list[dict[str, float]]:
        """Percentiles of equal slices of the run; slices without a value are left out."""
        if not self.at:
            return []
        width = max(max(self.at) / _SLICES, 0.1)
        slices: dict[int, list[float]] = {}
        for at, ms in zip(self.at, self.ms, strict=True):
            slices.setdefault(int(at / width), []).append(ms)
        found = []
        for number, values in sorted(slices.items()):
            values.sort()
            figures = {
                "p50": percentile(values, 0.5),
                "p99": percentile(values, 0.99),
                "max": values[-1],
            }
            found.append(
                {
                    "at_s": round(number * width, 3),
                    "count": len(values),
                    **{name: round(value, 3) for name, value in figures.items()},
                }
            )
        return found
