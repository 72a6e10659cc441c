"""The price table: AWS list prices with where each was read."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from infra.errors import TradestackError

TABLE = Path(__file__).with_name("prices.yaml")
"""The table; its head says how a row is written."""


@dataclass(frozen=True)
class Price:
    """List price of one thing."""

    service: str
    """Service of the table, such as `rds`."""
    item: str
    """Item of the service, such as `db.t4g.medium`."""
    unit: str
    """What one of is paid for, such as `hour` or `GB-month`."""
    usd: Decimal
    """US dollars for one unit."""
    source: str
    """Where it was read, and when; empty for an estimate."""
    is_estimate: bool
    """Whether there is no source that can be cited."""


@dataclass(frozen=True)
class Discount:
    """Share of the on-demand price that another way of buying saves."""

    name: str
    share: Decimal
    """Between 0 and 1."""
    source: str
    """Where it was read, and when; empty for an estimate."""
    is_estimate: bool
    """Whether there is no source that can be cited."""


@dataclass(frozen=True)
class PriceTable:
    """Prices by service and item."""

    region: str
    """Region that the prices are for."""
    prices: Mapping[str, Mapping[str, Price]]
    discounts: Mapping[str, Discount]

    def price(self, service: str, item: str) -> Price:
        """Price of an item.

        Raises:
            TradestackError: the table has no such item; names those it has.
        """
        items = self.prices.get(service, {})
        if item not in items:
            known = ", ".join(sorted(items)) or "none"
            raise TradestackError(
                f"no {service} price for '{item}' in {self.region}; known: {known}",
                hint=f"Add it to {TABLE.name} with its source.",
            )
        return items[item]

    def less(self, price: Price, discount: str) -> Decimal:
        """Unit price of a list price after a discount."""
        return price.usd * (1 - self.discounts[discount].share)


@cache
def load(path: Path = TABLE) -> PriceTable:
    """The price table of a file.

    Raises:
        TradestackError: a row has no source and is not marked as an estimate, or is not positive.
    """
    content = yaml.safe_load(path.read_text())
    sources = {key: f"{item['what']} ({item['date']})" for key, item in content["sources"].items()}
    prices = {
        service: {
            str(item): Price(
                service, str(item), row["unit"], *_amount(row, "usd", sources, f"{service}/{item}")
            )
            for item, row in rows.items()
        }
        for service, rows in content["prices"].items()
    }
    discounts = {
        name: Discount(name, *_amount(row, "share", sources, f"discount {name}"))
        for name, row in content["discounts"].items()
    }
    return PriceTable(content["region"], prices, discounts)


def _amount(
    row: Mapping[str, Any], key: str, sources: Mapping[str, str], where: str
) -> tuple[Decimal, str, bool]:
    amount, source, estimate = row.get(key), row.get("source", ""), bool(row.get("estimate"))
    if not isinstance(amount, str) or Decimal(amount) <= 0:
        raise TradestackError(f"{where}: '{key}' is {amount!r}; write a positive number in quotes")
    if bool(source) == estimate:
        raise TradestackError(f"{where}: give either a source or 'estimate: true'")
    if source and source not in sources:
        raise TradestackError(f"{where}: there is no source '{source}' (known: {', '.join(sorted(sources))})")
    return Decimal(amount), sources.get(source, ""), estimate
