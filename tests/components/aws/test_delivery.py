"""The pipeline from a commit to a running image."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from components.aws.buildspec import Rollout, appspec, build_spec, deploy_spec
from components.aws.delivery import BuildNetwork, Delivery, DeliveryArgs
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="eu-west-1")
ROLLOUT = Rollout("notify", "notify-blue-green", "tradestack-test-notification", "app", 8080)
ARGS = DeliveryArgs(
    scope=SCOPE,
    stack="staging",
    connection_arn="arn:aws:codeconnections:eu-west-1:123456789012:connection/c",
    repository="example/tradestack",
    branch="main",
    artifact_bucket="artifacts",
    artifact_key_arn="arn:artifacts-key",
    log_key_arn="arn:logs-key",
    log_days=30,
    alerts_topic_arn="arn:topic",
    registry_arn="arn:aws:ecr:eu-west-1:123456789012:repository/tradestack-test/app",
    deployer_role_arn="arn:aws:iam::123456789012:role/deployer",
    backend="https://api.pulumi.com",
    rollout=ROLLOUT,
    task_role_arns=("arn:aws:iam::123456789012:role/task",),
)
Record = Callable[[Callable[[], object]], Any]


def _stages(made: Any) -> dict[str, list[dict[str, Any]]]:
    return {stage["name"]: stage["actions"] for stage in made.one("Pipeline")["stages"]}


def _statements(made: Any, role: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(made.one("RolePolicy", role)["policy"])["Statement"]
    return found


def test_a_commit_is_built_approved_updated_and_shifted_in_this_order(record: Record) -> None:
    made = record(lambda: Delivery("delivery", ARGS))
    stages = _stages(made)
    assert list(stages) == ["Source", "Build", "Approval", "Deploy"]
    source = stages["Source"][0]["configuration"]
    assert source["ConnectionArn"] == ARGS.connection_arn
    assert (source["FullRepositoryId"], source["BranchName"]) == ("example/tradestack", "main")
    update, shift = stages["Deploy"]
    assert (update["provider"], update["runOrder"]) == ("CodeBuild", 1)
    assert (shift["provider"], shift["runOrder"]) == ("CodeDeployToECS", 2)
    # Each artifact that an action reads was made by an earlier one.
    known: set[str] = set()
    for action in (action for actions in stages.values() for action in actions):
        assert set(action["inputArtifacts"]) <= known
        known |= set(action["outputArtifacts"])


def test_without_approval_and_rollout_these_are_left_out(record: Record) -> None:
    made = record(lambda: Delivery("delivery", replace(ARGS, approval=False, rollout=None)))
    stages = _stages(made)
    assert list(stages) == ["Source", "Build", "Deploy"]
    assert [action["provider"] for action in stages["Deploy"]] == ["CodeBuild"]
    assert stages["Deploy"][0]["outputArtifacts"] == []
    granted = {action for item in _statements(made, "delivery-pipeline") for action in item["Action"]}
    assert not [action for action in granted if action.startswith(("codedeploy:", "ecs:", "iam:"))]


def test_artifacts_and_logs_are_encrypted_with_the_keys_given(record: Record) -> None:
    made = record(lambda: Delivery("delivery", ARGS))
    pipeline = made.one("Pipeline")
    assert pipeline["pipelineType"] == "V2"
    assert pipeline["artifactStores"] == [
        {"type": "S3", "location": "artifacts", "encryptionKey": {"type": "KMS", "id": "arn:artifacts-key"}}
    ]
    for name in ("delivery-build", "delivery-deploy"):
        project = made.one("Project", name)
        assert project["encryptionKey"] == "arn:artifacts-key"
        group = made.one("LogGroup", name)
        assert project["logsConfig"]["cloudwatchLogs"]["groupName"] == group["name"]
        assert (group["kmsKeyId"], group["retentionInDays"]) == ("arn:logs-key", 30)


def test_only_the_build_of_images_is_privileged(record: Record) -> None:
    made = record(lambda: Delivery("delivery", ARGS))
    assert made.one("Project", "delivery-build")["environment"]["privilegedMode"] is True
    assert made.one("Project", "delivery-deploy")["environment"]["privilegedMode"] is False


def test_every_role_names_what_it_may_touch(record: Record) -> None:
    network = BuildNetwork("vpc-1", ("subnet-1",))
    made = record(lambda: Delivery("delivery", replace(ARGS, network=network)))
    # These know no resource: a login to ECR, everything that describes.
    anywhere = {"ecr:GetAuthorizationToken"}
    for role in ("delivery-build", "delivery-deploy", "delivery-pipeline"):
        for item in _statements(made, role):
            assert "*" not in item["Action"]
            if item["Resource"] == ["*"]:
                assert set(item["Action"]) <= anywhere or all(
                    action.startswith("ec2:Describe") for action in item["Action"]
                )
    deploy = _statements(made, "delivery-deploy")
    assert {"Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": [ARGS.deployer_role_arn]} in deploy
    assert not [item for item in deploy if "ecr:PutImage" in item["Action"]]
    passed = [i for i in _statements(made, "delivery-pipeline") if i["Action"] == ["iam:PassRole"]]
    assert passed[0]["Resource"] == ["arn:aws:iam::123456789012:role/task"]
    assert passed[0]["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    started = [i for i in _statements(made, "delivery-pipeline") if "codebuild:StartBuild" in i["Action"]]
    projects = {made.one("Project", name)["name"] for name in ("delivery-build", "delivery-deploy")}
    assert {arn.rsplit("/", 1)[-1] for arn in started[0]["Resource"]} == projects


def test_builds_in_a_network_have_a_group_of_their_own_without_ingress(record: Record) -> None:
    network = BuildNetwork("vpc-1", ("subnet-1", "subnet-2"))
    made = record(lambda: Delivery("delivery", replace(ARGS, network=network)))
    placed = made.one("Project", "delivery-deploy")["vpcConfig"]
    assert (placed["vpcId"], placed["subnets"]) == ("vpc-1", ["subnet-1", "subnet-2"])
    assert placed["securityGroupIds"] == ["delivery-builds-id"]
    assert "SecurityGroupIngressRule" not in made.kinds()
    outside = record(lambda: Delivery("delivery", ARGS))
    assert "SecurityGroup" not in outside.kinds()
    assert "vpcConfig" not in outside.one("Project", "delivery-deploy")


def test_the_engines_token_comes_from_a_secret(record: Record) -> None:
    secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:token"
    args = replace(ARGS, token_secret_arn=secret, token_key_arn="arn:secrets-key")
    made = record(lambda: Delivery("delivery", args))
    variables = made.one("Project", "delivery-deploy")["environment"]["environmentVariables"]
    assert {"name": "PULUMI_ACCESS_TOKEN", "value": secret, "type": "SECRETS_MANAGER"} in variables
    granted = _statements(made, "delivery-deploy")
    assert {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": [secret]} in granted
    assert {"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": ["arn:secrets-key"]} in granted


def test_people_are_told_of_failures_successes_and_approvals(record: Record) -> None:
    rule = record(lambda: Delivery("delivery", ARGS)).one("NotificationRule")
    assert rule["targets"] == [{"type": "SNS", "address": "arn:topic"}]
    assert {event.rsplit("-", 1)[-1] for event in rule["eventTypeIds"]} == {"failed", "succeeded", "needed"}


def _deploy(rollout: Rollout | None = ROLLOUT) -> dict[str, Any]:
    text = deploy_spec(
        "staging",
        image="image",
        pulumi="3.272.0",
        deployer_role_arn=ARGS.deployer_role_arn,
        region="eu-west-1",
        rollout=rollout,
    )
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.mark.parametrize("document", [yaml.safe_load(build_spec("staging", "make test")), _deploy()])
def test_build_specifications_stop_at_the_first_failure_and_are_valid_shell(document: dict[str, Any]) -> None:
    assert document["version"] == 0.2
    for phase in document["phases"].values():
        assert phase["on-failure"] == "ABORT"
        for command in phase["commands"]:
            subprocess.run(["bash", "-n"], input=command, text=True, check=True)


def test_nothing_is_published_before_the_tests_succeed() -> None:
    phases = yaml.safe_load(build_spec("staging", "make test"))["phases"]
    assert phases["pre_build"]["commands"] == ["make test"]
    assert "images publish staging --write" in phases["build"]["commands"][0]


def test_the_rollouts_files_are_made_from_the_running_service_and_the_new_image(tmp_path: Any) -> None:
    commands = _deploy()["phases"]["post_build"]["commands"]
    running = {
        "taskDefinitionArn": "arn",
        "revision": 7,
        "family": "tradestack-test-notification",
        "containerDefinitions": [{"name": "app", "image": "old"}, {"name": "otel", "image": "kept"}],
    }
    image = tmp_path / "image"
    image.mkdir()
    (image / "published.json").write_text(json.dumps({"uri": "host/app@sha256:1"}))
    (tmp_path / "answer.json").write_text(json.dumps(running))
    script = "aws() { cat answer.json; }\n" + "\n".join(commands)
    environment = {
        "PATH": "/usr/bin:/bin",
        "CODEBUILD_SRC_DIR_image": str(image),
        "CODEBUILD_BUILD_SUCCEEDING": "1",
    }
    subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, check=True)
    task = json.loads((tmp_path / "taskdef.json").read_text())
    assert task == {
        "family": "tradestack-test-notification",
        "containerDefinitions": [
            {"name": "app", "image": "<IMAGE1_NAME>"},
            {"name": "otel", "image": "kept"},
        ],
    }
    assert json.loads((tmp_path / "imageDetail.json").read_text()) == {"ImageURI": "host/app@sha256:1"}
    assert (tmp_path / "appspec.yaml").read_text() == appspec(ROLLOUT)


def test_a_failed_update_is_not_followed_by_a_rollout(tmp_path: Any) -> None:
    commands = _deploy()["phases"]["post_build"]["commands"]
    environment = {"PATH": "/usr/bin:/bin", "CODEBUILD_BUILD_SUCCEEDING": "0"}
    done = subprocess.run(["bash", "-ec", "\n".join(commands)], cwd=tmp_path, env=environment, check=False)
    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_the_profile_of_the_deployer_is_what_the_aws_command_reads(tmp_path: Any) -> None:
    written = next(c for c in _deploy()["phases"]["pre_build"]["commands"] if "printf" in c)
    (tmp_path / ".aws").mkdir()
    subprocess.run(["bash", "-c", written], env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, check=True)
    lines = (tmp_path / ".aws" / "config").read_text().splitlines()
    assert lines == [
        "[profile deploy]",
        "role_arn = arn:aws:iam::123456789012:role/deployer",
        "credential_source = EcsContainer",
        "region = eu-west-1",
    ]
