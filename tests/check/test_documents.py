"""Policies with ARNs that only AWS knows can be read all the same."""

import json

from infra.check.documents import complete, made_up_arn
from infra.plan import UNKNOWN, Plan
from infra.policy import check


def _unread(found: Plan) -> list[str]:
    return [item.resource for item in check(found) if "not known before a deployment" in item.message]


def test_the_policies_of_every_stack_can_be_read(cloud_plans: list[Plan]) -> None:
    for found in cloud_plans:
        assert _unread(found), "nothing is left to complete"
        assert _unread(complete(found)) == []


def test_nothing_but_policy_documents_changes(cloud_plans: list[Plan]) -> None:
    found = cloud_plans[0]
    completed = complete(found)
    changed = 0
    for before, after in zip(found.resources, completed.resources, strict=True):
        assert before.urn == after.urn
        assert before.property_dependencies == after.property_dependencies
        for key, value in after.inputs.items():
            if value is not before.inputs[key]:
                changed += 1
                assert before.inputs[key] is UNKNOWN
                assert json.loads(value)["Statement"]
    assert changed > 5


def test_a_plan_without_unknown_documents_is_left_alone(local_plan: Plan) -> None:
    assert complete(local_plan) is local_plan


def test_made_up_arns_have_the_form_of_aws() -> None:
    assert made_up_arn("aws:sqs/queue:Queue", "report") == "arn:aws:sqs:us-east-1:123456789012:queue/report"
