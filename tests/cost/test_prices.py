"""The price table: sources, estimates, and what it refuses."""

from pathlib import Path

import pytest

from infra.cost.prices import load
from infra.cost.usage import defaults
from infra.errors import TradestackError

HEAD = 'region: us-east-1\nsources: {aws: {date: "2026-01-01", what: page}}\ndiscounts: {}\nprices:\n'


def _table(tmp_path: Path, row: str) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(f"{HEAD}  kms:\n    key: {row}\n")
    return path


def test_every_price_has_a_source_or_is_an_estimate() -> None:
    table = load()
    prices = [price for items in table.prices.values() for price in items.values()]
    assert len(prices) > 150
    assert all(bool(price.source) != price.is_estimate for price in prices)
    # Most of the table can be looked up; what cannot is marked.
    assert sum(price.is_estimate for price in prices) < len(prices) / 3


def test_node_types_come_from_the_price_list() -> None:
    table = load()
    for family in ("t3", "t3a", "t4g"):
        for size in ("medium", "large", "xlarge", "2xlarge"):
            assert not table.price("ec2", f"{family}.{size}").is_estimate
    for family in ("m7i", "m7g", "c7i", "c7g", "m6i", "c6i"):
        for size in ("large", "xlarge", "2xlarge"):
            assert not table.price("ec2", f"{family}.{size}").is_estimate


def test_unknown_item_names_the_known() -> None:
    with pytest.raises(TradestackError, match=r"no msk price for 'kafka\.x'.*kafka\.t3\.small"):
        load().price("msk", "kafka.x")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{unit: month, usd: "1.00"}', "kms/key: give either a source or"),
        ('{unit: month, usd: "1.00", source: aws, estimate: true}', "kms/key: give either"),
        ('{unit: month, usd: "1.00", source: nowhere}', "no source 'nowhere'"),
        ("{unit: month, usd: 1.00, source: aws}", "in quotes"),
        ('{unit: month, usd: "0", source: aws}', "positive"),
    ],
)
def test_row_without_proof_is_refused(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(TradestackError, match=message):
        load(_table(tmp_path, row))


def test_row_with_a_source_is_exact(tmp_path: Path) -> None:
    price = load(_table(tmp_path, '{unit: month, usd: "1.10", source: aws}')).price("kms", "key")
    assert str(price.usd) == "1.10"
    assert price.source == "page (2026-01-01)"


def test_every_assumption_has_a_reason() -> None:
    for name, assumption in defaults().items():
        assert assumption.why, name
        assert assumption.unit, name
        assert assumption.value > 0, name
