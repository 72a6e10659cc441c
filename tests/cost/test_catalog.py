"""The tables of types against what the components can make."""

import re
from pathlib import Path

import pulumi_aws
import pytest

from infra.cost import catalog
from infra.paths import REPOSITORY

SOURCES = sorted([*(REPOSITORY / "components" / "aws").glob("*.py"), *(REPOSITORY / "stacks").rglob("*.py")])


def _tokens(path: Path) -> set[str]:
    """Type tokens of the AWS resources that a module makes."""
    made = re.findall(r"\baws\.([a-z0-9_]+)\.([A-Z]\w+)\(", path.read_text())
    kinds = [getattr(getattr(pulumi_aws, module), name) for module, name in set(made)]
    return {kind.pulumi_type for kind in kinds if hasattr(kind, "pulumi_type")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_type_that_a_component_makes_is_known(path: Path) -> None:
    unknown = {
        token
        for token in _tokens(path)
        if token not in catalog.PRICED and token not in catalog.BY_USAGE and not catalog.is_free(token)
    }
    assert not unknown, f"say in infra/cost/catalog.py what these cost: {sorted(unknown)}"


def test_the_components_are_found() -> None:
    assert len({token for path in SOURCES for token in _tokens(path)}) > 50


def test_no_type_is_in_two_tables() -> None:
    priced, by_usage = set(catalog.PRICED), set(catalog.BY_USAGE)
    assert not priced & by_usage
    assert not (priced | by_usage) & catalog.FREE


@pytest.mark.parametrize("token", sorted({*catalog.PRICED, *catalog.BY_USAGE, *catalog.FREE}))
def test_token_is_one_of_the_provider(token: str) -> None:
    """A misspelt token would never match."""
    package, path, name = token.split(":")
    if package != "aws":
        return
    module = path.split("/")[0]
    kind = getattr(getattr(pulumi_aws, {"lambda": "lambda_"}.get(module, module)), name)
    assert kind.pulumi_type == token
