"""The table of what replaces a resource: complete for every stack, and in the providers' own words."""

import importlib
import re

import pytest

from infra.plan import run, stackfile
from infra.plan.replacement import _file, rules


@pytest.mark.parametrize("stack", stackfile.stacks())
def test_every_type_of_every_stack_has_rules(stack: str) -> None:
    unknown = {item.type for item in run(stack).resources if item.custom and rules(item.type) is None}
    assert not unknown


def test_what_replaces_is_a_property_that_the_provider_has() -> None:
    """First keys only; a misspelt one would never match."""
    missing = []
    for type_, entry in _file()["aws"]["types"].items():
        module, name = re.fullmatch(r"aws:(\w+)/\w+:(\w+)", type_).groups()  # type: ignore[union-attr]
        package = importlib.import_module(f"pulumi_aws.{'lambda_' if module == 'lambda' else module}")
        given = vars(getattr(package, name))
        known = {key.replace("_", "").lower() for key in given}
        paths = [*entry["replace"], *entry.get("lowered", []), *entry.get("perhaps", {})]
        missing += [(type_, path) for path in paths if path.split(".")[0].lower() not in known]
    assert missing == []


def test_each_rule_has_its_source() -> None:
    assert rules("aws:rds/instance:Instance").source == (  # type: ignore[union-attr]
        "github.com/hashicorp/terraform-provider-aws@5f2286d6d836 internal/service/rds/instance.go"
    )
    for section in _file().values():
        for type_ in section.get("types", {}):
            assert re.search(r"\.go\b|pull request", rules(type_).source), type_  # type: ignore[union-attr]


def test_what_holds_data_is_a_type_with_rules() -> None:
    assert [type_ for type_ in _file()["data"] if rules(type_) is None] == []


def test_every_kubernetes_kind_has_the_rules_of_every_kind() -> None:
    found = rules("kubernetes:keda.sh/v1alpha1:ScaledObject")
    assert found is not None
    assert found.replace == (("metadata", "name"), ("metadata", "namespace"))
    assert rules("aws:quantum/thing:Thing") is None
