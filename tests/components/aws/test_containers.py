"""ECS: hardened tasks, blue-green rollout behind an internal load balancer, jobs on a schedule."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.roles import ROLES, Host
from components.aws.containers import Containers, ContainersArgs, TaskNetwork, TaskNetworkArgs
from components.aws.messaging import queue_reader
from components.aws.scheduled_tasks import schedule_expression
from components.aws.scope import Scope
from components.aws.task_definition import ContainerRole, SecretRef

Record = Callable[[Callable[[], object]], Any]
SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tradestack-test/app@sha256:0"
DATABASE = {"APP_DATABASE_PASSWORD": SecretRef("arn:secret:database", "password")}
NOTIFICATION = ContainerRole(
    ROLES["notification"],
    environment={"APP_QUEUE_URL": "https://queue"},
    secrets=DATABASE,
    statements=queue_reader(SCOPE, "arn:queue", "arn:messaging-key"),
)
HOUSEKEEPING = ContainerRole(ROLES["housekeeping"], secrets=DATABASE)
ARGS = ContainersArgs(
    SCOPE,
    image=IMAGE,
    repository_arn="arn:repository",
    architecture="ARM64",
    roles=(NOTIFICATION, HOUSEKEEPING),
    vpc_id="vpc-1",
    subnet_ids=("subnet-1", "subnet-2", "subnet-3"),
    client_cidr="10.0.0.0/16",
    security_group_id="sg-tasks",
    key_arn="arn:sessions-key",
    secret_key_arn="arn:secret-key",
    messaging_key_arn="arn:messaging-key",
    log_key_arn="arn:log-key",
    log_days=30,
    log_bucket="logs",
    alerts_topic_arn="arn:alerts",
    minimum=2,
    maximum=6,
    queue_names={"notification": "tradestack-test-notification"},
)


@pytest.fixture(autouse=True)
def arns(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """What AWS would answer beyond the inputs."""
    recorder = record.__globals__["Recorder"]
    answer = recorder.new_resource

    def with_arn(self: Any, args: Any) -> tuple[str, dict[str, Any]]:
        name, state = answer(self, args)
        arn = f"arn:made:{args.typ.rsplit(':', 1)[-1]}:{args.name}"
        return name, {"arn": arn, "arnSuffix": f"suffix/{args.name}", **state}

    monkeypatch.setattr(recorder, "new_resource", with_arn)


@pytest.fixture
def made(record: Record) -> Any:
    return record(lambda: Containers("containers", ARGS))


def every(made: Any, kind: str) -> dict[str, dict[str, Any]]:
    return {item.name: item.inputs for item in made.custom() if item.typ.endswith(f":{kind}")}


def allowed(made: Any, role: str) -> dict[str, list[str]]:
    document = json.loads(made.one("RolePolicy", role)["policy"])
    return {
        action: statement["Resource"] for statement in document["Statement"] for action in statement["Action"]
    }


def container(made: Any, name: str) -> dict[str, Any]:
    (found,) = json.loads(made.one("TaskDefinition", name)["containerDefinitions"])
    return dict(found)


def test_the_role_table_says_what_runs_here() -> None:
    hosted = {name for name, role in ROLES.items() if role.host is Host.CONTAINERS}
    assert hosted == {item.role.name for item in ARGS.roles}


def test_tasks_are_hardened(made: Any) -> None:
    for name in ("notification", "housekeeping"):
        found = container(made, name)
        assert (found["image"], found["command"]) == (IMAGE, ["run", name])
        assert found["user"] == "10001:10001"
        assert found["readonlyRootFilesystem"] is True
        assert found["privileged"] is False
        assert found["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
        task = made.one("TaskDefinition", name)
        assert (task["networkMode"], task["requiresCompatibilities"]) == ("awsvpc", ["FARGATE"])
        assert task["runtimePlatform"]["cpuArchitecture"] == "ARM64"
        assert task["skipDestroy"] is True


def test_secrets_come_from_secrets_manager_and_are_in_no_definition(made: Any) -> None:
    found = container(made, "notification")
    assert found["secrets"] == [
        {"name": "APP_DATABASE_PASSWORD", "valueFrom": "arn:secret:database:password::"}
    ]
    assert {"name": "APP_QUEUE_URL", "value": "https://queue"} in found["environment"]
    agent = allowed(made, "agent-notification")
    assert agent["secretsmanager:GetSecretValue"] == ["arn:secret:database"]
    assert agent["kms:Decrypt"] == ["arn:secret-key"]


def test_task_and_agent_have_roles_of_their_own(made: Any) -> None:
    roles = {
        (item["taskRoleArn"], item["executionRoleArn"]) for item in every(made, "TaskDefinition").values()
    }
    assert roles == {
        (f"arn:made:Role:task-{name}", f"arn:made:Role:agent-{name}")
        for name in ("notification", "housekeeping")
    }
    assert allowed(made, "task-notification")["sqs:ReceiveMessage"] == ["arn:queue"]
    assert "task-housekeeping" not in every(made, "RolePolicy")
    everything = {
        action
        for role in every(made, "RolePolicy")
        for action, resources in allowed(made, role).items()
        if "*" in resources
    }
    assert everything == {
        "ecr:GetAuthorizationToken",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeRules",
        "elasticloadbalancing:DescribeTargetGroups",
    }


def test_logs_and_sessions_are_encrypted(made: Any) -> None:
    logs = every(made, "LogGroup")
    assert len(logs) == 3
    assert {(item["kmsKeyId"], item["retentionInDays"]) for item in logs.values()} == {("arn:log-key", 30)}
    options = container(made, "notification")["logConfiguration"]["options"]
    assert options["awslogs-group"] == logs["notification"]["name"]
    cluster = made.one("Cluster")
    session = cluster["configuration"]["executeCommandConfiguration"]
    assert (session["kmsKeyId"], session["logging"]) == ("arn:sessions-key", "OVERRIDE")
    assert cluster["settings"] == [{"name": "containerInsights", "value": "enhanced"}]


def test_the_service_is_private_and_leaves_to_others_what_they_own(made: Any) -> None:
    service = made.one("Service")
    assert service["networkConfiguration"] == {
        "subnets": ["subnet-1", "subnet-2", "subnet-3"],
        "securityGroups": ["sg-tasks"],
        "assignPublicIp": False,
    }
    assert service["deploymentController"] == {"type": "CODE_DEPLOY"}
    assert "deploymentCircuitBreaker" not in service
    assert service["desiredCount"] == 2
    assert service["loadBalancers"][0]["targetGroupArn"] == "arn:made:TargetGroup:notification-blue"


def test_a_rollout_goes_from_blue_to_green_and_back_on_an_alarm(made: Any) -> None:
    group = made.one("DeploymentGroup")
    assert group["deploymentStyle"] == {
        "deploymentOption": "WITH_TRAFFIC_CONTROL",
        "deploymentType": "BLUE_GREEN",
    }
    assert group["deploymentConfigName"] == "CodeDeployDefault.ECSAllAtOnce"
    pair = group["loadBalancerInfo"]["targetGroupPairInfo"]
    names = [item["name"] for item in pair["targetGroups"]]
    assert names == [
        every(made, "TargetGroup")[f"notification-{colour}"]["name"] for colour in ("blue", "green")
    ]
    assert pair["prodTrafficRoute"] == {"listenerArns": ["arn:made:Listener:notification-requests"]}
    assert pair["testTrafficRoute"] == {"listenerArns": ["arn:made:Listener:notification-tests"]}
    alarms = {item["name"] for item in every(made, "MetricAlarm").values()}
    assert set(group["alarmConfiguration"]["alarms"]) <= alarms
    assert len(group["alarmConfiguration"]["alarms"]) == 2
    assert set(group["autoRollbackConfiguration"]["events"]) >= {
        "DEPLOYMENT_FAILURE",
        "DEPLOYMENT_STOP_ON_ALARM",
    }


def test_a_pipeline_learns_what_to_roll_out(record: Record) -> None:
    built: list[Containers] = []
    made = record(lambda: built.append(Containers("containers", ARGS)))
    rollout = built[0].rollouts["notification"]
    group = made.one("DeploymentGroup")
    assert (rollout.application, rollout.deployment_group) == (
        made.one("Application")["name"],
        group["deploymentGroupName"],
    )
    assert rollout.family == made.one("TaskDefinition", "notification")["family"]
    service = made.one("Service")["loadBalancers"][0]
    assert (rollout.container, rollout.port) == (service["containerName"], service["containerPort"])
    assert len(built[0].role_arns) == 4


def test_the_rollout_may_pass_the_roles_of_its_tasks_only(made: Any) -> None:
    found = allowed(made, "rollout-notification")
    assert found["iam:PassRole"] == ["arn:made:Role:task-notification", "arn:made:Role:agent-notification"]
    assert found["elasticloadbalancing:ModifyListener"] == [
        "arn:made:Listener:notification-requests",
        "arn:made:Listener:notification-tests",
    ]
    assert found["ecs:DescribeServices"] == [
        "arn:aws:ecs:us-east-1:123456789012:service/tradestack-test-containers/tradestack-test-notification"
    ]


def test_the_load_balancer_is_internal_and_asks_tasks_whether_they_are_ready(made: Any) -> None:
    balancer = made.one("LoadBalancer")
    assert (balancer["internal"], balancer["loadBalancerType"]) == (True, "network")
    assert balancer["enableDeletionProtection"] is True
    assert balancer["accessLogs"] == {"bucket": "logs", "prefix": "nlb", "enabled": True}
    for target in every(made, "TargetGroup").values():
        assert target["targetType"] == "ip"
        assert (target["healthCheck"]["protocol"], target["healthCheck"]["path"]) == ("HTTP", "/readyz")
        assert len(target["name"]) <= 32
    ingress = every(made, "SecurityGroupIngressRule")
    assert {
        (rule.get("cidrIpv4") or rule["referencedSecurityGroupId"], rule["fromPort"])
        for rule in ingress.values()
    } == {("10.0.0.0/16", 8092), ("10.0.0.0/16", 8093), ("notification-front-id", 8092)}


def test_tasks_follow_load_and_backlog_within_bounds(made: Any) -> None:
    target = made.one("Target")
    assert (target["minCapacity"], target["maxCapacity"]) == (2, 6)
    assert target["resourceId"] == "service/tradestack-test-containers/tradestack-test-notification"
    policies = every(made, "Policy")
    assert policies.keys() == {"notification-cpu", "notification-backlog"}
    backlog = policies["notification-backlog"]["targetTrackingScalingPolicyConfiguration"]
    metric = backlog["customizedMetricSpecification"]
    assert metric["dimensions"] == [{"name": "QueueName", "value": "tradestack-test-notification"}]


def test_a_job_is_started_when_the_role_table_says(made: Any) -> None:
    schedule = made.one("Schedule")
    assert schedule["scheduleExpression"] == "cron(17 3 * * ? *)"
    assert schedule["scheduleExpressionTimezone"] == "UTC"
    parameters = schedule["target"]["ecsParameters"]
    assert parameters["taskDefinitionArn"] == "arn:made:TaskDefinition:housekeeping"
    assert parameters["networkConfiguration"]["assignPublicIp"] is False
    assert schedule["target"]["deadLetterConfig"] == {"arn": "arn:made:Queue:containers-dead"}
    starter = allowed(made, "schedule-housekeeping")
    assert starter["ecs:RunTask"] == [
        "arn:aws:ecs:us-east-1:123456789012:task-definition/tradestack-test-housekeeping:*"
    ]
    assert starter["iam:PassRole"] == ["arn:made:Role:task-housekeeping", "arn:made:Role:agent-housekeeping"]


def test_tasks_reach_the_database_and_aws_and_nothing_else(record: Record) -> None:
    args = TaskNetworkArgs(SCOPE, "vpc-1", ("10.0.48.0/24", "10.0.49.0/24"), 5433)
    made = record(lambda: TaskNetwork("tasks", args))
    flows = {
        (rule["cidrIpv4"], rule["fromPort"], rule["toPort"])
        for rule in every(made, "SecurityGroupEgressRule").values()
    }
    assert flows == {("10.0.48.0/24", 5433, 5433), ("10.0.49.0/24", 5433, 5433), ("0.0.0.0/0", 443, 443)}
    assert not every(made, "SecurityGroupIngressRule")


@pytest.mark.parametrize(
    ("cron", "expression"),
    [
        ("17 3 * * *", "cron(17 3 * * ? *)"),
        ("*/30 * * * *", "cron(*/30 * * * ? *)"),
        ("5 22 * * 1-5", "cron(5 22 ? * MON-FRI *)"),
        ("0 0 * * 0,6", "cron(0 0 ? * SUN,SAT *)"),
        ("0 0 1 * *", "cron(0 0 1 * ? *)"),
    ],
)
def test_schedules_mean_the_same_at_eventbridge(cron: str, expression: str) -> None:
    assert schedule_expression(cron) == expression


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("* * * *", "five fields"),
        ("0 0 1 * 1", "days of the month or of the week, not both"),
        ("0 0 * * MON", "weekdays are numbers 0 to 7"),
    ],
)
def test_schedules_that_eventbridge_cannot_express_are_refused(cron: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule_expression(cron)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum": 3, "maximum": 2}, "minimum 3, maximum 2: 1 <= minimum <= maximum"),
        ({"roles": (ContainerRole(ROLES["migrate"]),)}, "role 'migrate' is a task, not a service or job"),
    ],
)
def test_what_cannot_run_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ARGS, **change)
