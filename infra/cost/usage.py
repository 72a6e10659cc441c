"""Usage that no plan can tell: stated defaults, overrides, and a record of what an estimate rests on."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path

import yaml

from infra.cost.model import ZERO, Assumption
from infra.errors import TradestackError

TABLE = Path(__file__).with_name("usage.yaml")
"""Defaults with their units and reasons."""


@cache
def defaults() -> Mapping[str, Assumption]:
    """Every assumption with its default, by name."""
    rows = yaml.safe_load(TABLE.read_text())
    return {
        name: Assumption(name, Decimal(row["value"]), row["unit"], row["per"], row["why"], ZERO)
        for name, row in rows.items()
    }


class Usage:
    """The assumptions of one estimate."""

    def __init__(self, overrides: Mapping[str, float | Decimal | str] | None = None) -> None:
        """Defaults, with `overrides` by name.

        Raises:
            TradestackError: an override has an unknown name or is not a number of at least 0.
        """
        known = defaults()
        self._values = {name: assumption.value for name, assumption in known.items()}
        self._totals: dict[str, Decimal] = {}
        self._overridden = frozenset(overrides or {})
        for name, value in (overrides or {}).items():
            if name not in known:
                raise TradestackError(f"usage '{name}' is not known; known: {', '.join(sorted(known))}")
            self._values[name] = _number(name, value)

    def take(self, name: str, times: Decimal | int = 1) -> Decimal:
        """Quantity of `name` for `times` of what it is given per; recorded."""
        quantity = self._values[name] * times
        self._totals[name] = self._totals.get(name, ZERO) + quantity
        return quantity

    def taken(self) -> tuple[Assumption, ...]:
        """Assumptions that were used, by name."""
        return tuple(self._assumption(name) for name in sorted(self._totals))

    def _assumption(self, name: str) -> Assumption:
        default = defaults()[name]
        why = f"given; the default is {default.value}" if name in self._overridden else default.why
        return Assumption(name, self._values[name], default.unit, default.per, why, self._totals[name])


def _number(name: str, value: float | Decimal | str) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal(-1)
    if not number.is_finite() or number < 0:
        raise TradestackError(f"usage '{name}' is {value!r}; a number of at least 0 is wanted")
    return number
