"""How long the plan of a stack takes, and how that grows with its size."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, TypeVar

from infra.bench.report import Report, versions
from infra.paths import REPOSITORY
from infra.plan.model import Plan
from infra.progress import Steps

SIZES = (300, 1_000, 3_000)
"""Resources of the stacks that are made up for the measurement."""

Result = TypeVar("Result")

_STACK = "prod"
_RUNS = 3
_TIMES = ("plan_s", "diff_s", "check_s", "cost_s")
_CHILDREN = 9
"""Resources of one component, as in the stacks of this repository."""


def measure(steps: Steps, *, sizes: tuple[int, ...] = SIZES) -> Report:
    """Time the command on the largest stack, then plan, comparison and checks of stacks of growing size.

    Every time is the median of three, in wall seconds. `growth` is the time for one resource in the largest
    stack by that in the smallest: 1 when it is linear.
    """
    with steps.step(f"Plan of {_STACK}", estimate_s=6 * _RUNS):
        command_s, resources = _command()
    measured = []
    for size in sizes:
        with steps.step(f"{size} resources", estimate_s=0.01 * size * _RUNS):
            measured.append(_of_size(size))
    first, last = measured[0], measured[-1]
    growth = {name: round(_each(last, name) / _each(first, name), 2) for name in _TIMES[:3]}
    return Report(
        name="plan",
        ours={
            "stack": _STACK,
            "command_s": round(command_s, 2),
            "resources": resources,
            "sizes": [{name: round(value, 4) for name, value in size.items()} for size in measured],
            "growth": growth,
        },
        versions=dict(versions(["pulumi", "pulumi-aws", "pulumi-kubernetes"])),
    )


def synthetic(resources: int) -> Plan:
    """The plan of a program that registers about `resources`: components of queues, topics and roles.

    It goes the whole way that a real program goes: constructors of the SDK, the monitor, the ordering.
    """
    from infra.plan.runner import run_program

    return run_program(lambda: _program(resources), _STACK, REPOSITORY / f"Pulumi.{_STACK}.yaml", {})


def _program(resources: int) -> None:
    import pulumi
    import pulumi_aws as aws

    previous: pulumi.Input[str] = "arn:aws:sqs:us-east-1:123456789012:first"
    for number in range(resources // (_CHILDREN + 1)):
        part = pulumi.ComponentResource("tradestack:bench:Part", f"part-{number}")
        child = pulumi.ResourceOptions(parent=part)
        key = aws.kms.Key(f"key-{number}", enable_key_rotation=True, opts=child)
        dead = aws.sqs.Queue(f"dead-{number}", kms_master_key_id=key.arn, opts=child)
        redrive = pulumi.Output.json_dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 5})
        queue = aws.sqs.Queue(
            f"queue-{number}", redrive_policy=redrive, tags={"Part": str(number)}, opts=child
        )
        topic = aws.sns.Topic(f"topic-{number}", kms_master_key_id=key.key_id, opts=child)
        aws.sns.TopicSubscription(
            f"feed-{number}", topic=topic.arn, protocol="sqs", endpoint=queue.arn, opts=child
        )
        role = aws.iam.Role(f"role-{number}", assume_role_policy="{}", opts=child)
        policy = pulumi.Output.json_dumps(
            {"Statement": [{"Action": "sqs:*", "Resource": [queue.arn, previous]}]}
        )
        aws.iam.RolePolicy(f"policy-{number}", role=role.name, policy=policy, opts=child)
        aws.cloudwatch.LogGroup(f"logs-{number}", retention_in_days=30, kms_key_id=key.arn, opts=child)
        aws.cloudwatch.MetricAlarm(
            f"alarm-{number}",
            comparison_operator="GreaterThanThreshold",
            evaluation_periods=1,
            alarm_actions=[topic.arn],
            dimensions={"QueueName": queue.name},
            opts=child,
        )
        part.register_outputs({})
        previous = queue.arn


def _of_size(size: int) -> dict[str, Any]:
    from infra import policy
    from infra.cost import estimate
    from infra.plan.diff import compare

    plan_s, plan = _timed(lambda: synthetic(size))
    diff_s, _ = _timed(lambda: compare(plan, plan))
    check_s, _ = _timed(lambda: policy.check(plan))
    cost_s, _ = _timed(lambda: estimate(plan))
    times = dict(zip(_TIMES, (plan_s, diff_s, check_s, cost_s), strict=True))
    return {"resources": len(plan.resources), **times}


def _each(size: dict[str, Any], name: str) -> float:
    """Seconds for one resource."""
    return float(size[name] / size["resources"])


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return median(times), result


def _command() -> tuple[float, int]:
    command = [sys.executable, "-m", "infra.cli", "plan", _STACK, "--json"]
    seconds, output = _timed(lambda: subprocess.run(command, capture_output=True, check=True).stdout)
    return seconds, len(json.loads(output)["resources"])
