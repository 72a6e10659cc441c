"""The policies of the engine say the same as the assertions over a plan.

The requests are those that the engine would send; the engine itself is not part of this.
"""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from pulumi.runtime.proto import analyzer_pb2
from pulumi_policy import EnforcementLevel, policy, proxy
from pulumi_policy.deserialize import SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY

from infra.plan import UNKNOWN, Plan, Secret
from infra.policy import ASSERTIONS, check, pack
from tests.policy.good import declared, plan
from tests.policy.test_assertions import DATABASE, FAULTS, STACK, broken


def _wire(value: Any) -> Any:
    if value is UNKNOWN:
        return proxy.UNKNOWN_STRING_VALUE
    if isinstance(value, Secret):
        return {SPECIAL_SIG_KEY: SPECIAL_SECRET_SIG, "value": _wire(value.value)}
    if isinstance(value, Mapping):
        return {key: _wire(item) for key, item in value.items()}
    return [_wire(item) for item in value] if isinstance(value, list) else value


def _request(found: Plan) -> analyzer_pb2.AnalyzeStackRequest:
    request = analyzer_pb2.AnalyzeStackRequest()
    for item in found.resources:
        resource = request.resources.add(urn=item.urn, type=item.type, name=item.name)
        properties = struct_pb2.Struct()
        json_format.ParseDict(_wire(item.inputs), properties)
        resource.properties.CopyFrom(properties)
        resource.options.protect = item.options.protect
        resource.dependencies.extend(item.dependencies)
        for key, urns in item.property_dependencies.items():
            resource.propertyDependencies[key].urns.extend(urns)
    return request


def answers(found: Plan, only: str | None = None) -> list[analyzer_pb2.AnalyzeDiagnostic]:
    """Diagnostics of all policies, or of the one of assertion `only`."""
    policies = [item for item in pack.policies() if only is None or item.name == only.lower()]
    servicer = policy._PolicyAnalyzerServicer("tradestack", "0.1.0", policies, EnforcementLevel.MANDATORY)
    return list(servicer.AnalyzeStack(_request(found), None).diagnostics)


@pytest.fixture(autouse=True)
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({pack.ENVIRONMENT_KEY: "production"}))


def test_there_is_a_policy_for_each_assertion_but_that_on_secrets() -> None:
    """The engine hands secrets out in the clear, so a policy cannot tell what is one."""
    assert [item.name for item in pack.policies()] == [
        id_.lower() for id_ in sorted(ASSERTIONS) if id_ != "TS061"
    ]


def test_the_good_stack_has_no_violations() -> None:
    assert answers(plan(declared())) == []


@pytest.mark.parametrize("fault", [item for item in FAULTS if item[0] != "TS061"], ids=lambda item: item[0])
def test_a_policy_reports_what_the_assertion_finds(fault: tuple[str, Any, Any, str, Any]) -> None:
    found = broken(*fault[2:])
    expected = {(item.id.lower(), item.resource, f"{item.id}: {item.message}") for item in check(found)}
    reported = {
        (item.policyName, item.urn, item.message.split("\n", 1)[1]) for item in answers(found, only=fault[0])
    }
    assert reported == expected


@pytest.mark.parametrize(
    ("environment", "level"),
    [
        ("production", EnforcementLevel.MANDATORY),
        ("staging", EnforcementLevel.ADVISORY),
        ("development", EnforcementLevel.ADVISORY),
        ("", EnforcementLevel.MANDATORY),
    ],
)
def test_violations_block_in_production_and_advise_elsewhere(
    environment: str, level: EnforcementLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({pack.ENVIRONMENT_KEY: environment}))
    assert {item.enforcement_level for item in pack.policies()} == {level}
    found = answers(broken(DATABASE, "multiAz", False))
    levels = {
        EnforcementLevel.MANDATORY: analyzer_pb2.MANDATORY,
        EnforcementLevel.ADVISORY: analyzer_pb2.ADVISORY,
    }
    assert [(item.policyName, item.enforcementLevel) for item in found] == [("ts017", levels[level])]


def test_a_relaxed_assertion_is_not_applicable_but_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    relax = json.dumps({"TS017": "one zone is enough for development"})
    found = broken(DATABASE, "multiAz", False)
    for environment, expected in (("development", []), ("production", ["ts017"])):
        given = {pack.ENVIRONMENT_KEY: environment, pack.RELAX_KEY: relax}
        monkeypatch.setenv("PULUMI_CONFIG", json.dumps(given))
        assert [item.policyName for item in answers(found)] == expected


def test_values_that_aws_filled_in_do_not_disturb() -> None:
    found = declared()
    found[DATABASE] |= {
        "replicateSourceDb": "",
        "password": None,
        "address": "db.example.com",
        "port": 5433.0,
    }
    assert STACK in found
    assert answers(plan(found)) == []
