"""Policies with ARNs that only AWS knows can be read all the same."""

import json

import pytest

from infra.plan import UNKNOWN, Plan, run
from infra.plan.documents import PLACEHOLDER, complete
from infra.policy import check


@pytest.fixture(scope="module")
def staging() -> Plan:
    return run("staging")


def _unread(found: Plan) -> list[str]:
    return [item.resource for item in check(found) if "not known before a deployment" in item.message]


def test_the_policies_of_a_stack_can_be_read(staging: Plan) -> None:
    assert _unread(staging), "nothing is left to complete"
    assert _unread(complete(staging)) == []


def test_nothing_but_texts_change_and_policies_keep_their_actions(staging: Plan) -> None:
    changed = 0
    for before, after in zip(staging.resources, complete(staging).resources, strict=True):
        assert before.urn == after.urn
        for key, value in after.inputs.items():
            if value is before.inputs[key]:
                continue
            changed += 1
            assert before.inputs[key] is UNKNOWN
            assert key in ("policy", "containerDefinitions", "dashboardBody")
            if key == "policy":
                assert all(item["Action"] for item in json.loads(value)["Statement"])
            assert PLACEHOLDER in value
    assert changed > 10


def test_a_plan_without_unknown_policies_is_left_alone(local_plan: Plan) -> None:
    assert complete(local_plan) is local_plan
