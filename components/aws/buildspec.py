"""What CodeBuild runs, as text: tests and the image, then the rollout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_APT = "apt-get install -y --no-install-recommends"
_DEPLOY_PROFILE = "deploy"
# What a task definition shows beyond what a new one takes.
_ANSWERED = (
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
)

IMAGE_PLACEHOLDER = "IMAGE1_NAME"
"""What CodePipeline replaces by the image's URI in the task definition, in angle brackets."""


@dataclass(frozen=True)
class Rollout:
    """The ECS service that CodeDeploy rolls out, blue-green."""

    application: str
    """CodeDeploy application."""
    deployment_group: str
    """CodeDeploy deployment group."""
    family: str
    """Family of the task definition."""
    container: str
    """Container that runs the app's image and takes the traffic."""
    port: int
    """Port of that container."""


def build_spec(stack: str, tests: str) -> str:
    """Runs the tests, publishes the image and hands on the stack's file with its digest.

    `tests` is the command that must succeed first, such as `make test`.
    """
    return _document(
        install=["apt-get update", f"{_APT} awscli ca-certificates git make", "infra/setup.sh test"],
        pre_build=[tests],
        build=[f".venv/bin/tradestack images publish {stack} --write --json > published.json"],
        post_build=["cat published.json"],
        files=[f"Pulumi.{stack}.yaml", "published.json"],
    )


def deploy_spec(
    stack: str, *, image: str, pulumi: str, deployer_role_arn: str, region: str, rollout: Rollout | None
) -> str:
    """Runs the program with the new digest as the deployer and prepares CodeDeploy's files.

    `image` is the artifact of `build_spec`, `pulumi` the version of the engine.
    """
    archive = f"https://get.pulumi.com/releases/sdk/pulumi-v{pulumi}-linux-x64.tar.gz"
    profile = (
        f"[profile {_DEPLOY_PROFILE}]",
        f"role_arn = {deployer_role_arn}",
        "credential_source = EcsContainer",
        f"region = {region}",
    )
    source = f"$CODEBUILD_SRC_DIR_{image}"
    return _document(
        install=[
            "apt-get update",
            f"{_APT} awscli ca-certificates curl git jq python3-venv",
            f"curl -fsSL {archive} | tar -xz -C /opt",
            'export PATH="/opt/pulumi:$PATH"',
            "python3 -m venv .venv",
            ".venv/bin/pip install --quiet -r requirements.txt",
        ],
        pre_build=[
            "mkdir -p ~/.aws",
            "printf '%s\\n' " + " ".join(f"'{line}'" for line in profile) + " > ~/.aws/config",
            f"export AWS_PROFILE={_DEPLOY_PROFILE}",
            f'cp "{source}/Pulumi.{stack}.yaml" .',
            f".venv/bin/tradestack check {stack}",
        ],
        build=[f".venv/bin/tradestack up {stack}"],
        post_build=_rollout_files(rollout, source) if rollout else ["true"],
        files=["appspec.yaml", "imageDetail.json", "taskdef.json"] if rollout else [],
    )


def appspec(rollout: Rollout) -> str:
    """CodeDeploy's description of the rollout; the action puts the new task definition in."""
    target = {
        "Type": "AWS::ECS::Service",
        "Properties": {
            "TaskDefinition": "<TASK_DEFINITION>",
            "LoadBalancerInfo": {"ContainerName": rollout.container, "ContainerPort": rollout.port},
        },
    }
    return _yaml({"version": 0.0, "Resources": [{"TargetService": target}]})


def _rollout_files(rollout: Rollout, source: str) -> list[str]:
    answered = ", ".join(f".{key}" for key in _ANSWERED)
    image = f'(.containerDefinitions[] | select(.name == "{rollout.container}") | .image)'
    change = f'del({answered}) | {image} = "<{IMAGE_PLACEHOLDER}>"'
    return [
        # A failed update must not be followed by a rollout.
        '[ "$CODEBUILD_BUILD_SUCCEEDING" = 1 ]',
        f"aws ecs describe-task-definition --task-definition {rollout.family} --query taskDefinition "
        "--output json > current.json",
        f"jq '{change}' current.json > taskdef.json",
        f"jq '{{ImageURI: .uri}}' \"{source}/published.json\" > imageDetail.json",
        f"cat > appspec.yaml <<'END'\n{appspec(rollout)}END",
    ]


def _document(
    *,
    install: Sequence[str],
    pre_build: Sequence[str],
    build: Sequence[str],
    post_build: Sequence[str],
    files: Sequence[str],
) -> str:
    phases = {"install": install, "pre_build": pre_build, "build": build, "post_build": post_build}
    document: dict[str, Any] = {
        "version": 0.2,
        "env": {"shell": "bash", "variables": {"DEBIAN_FRONTEND": "noninteractive"}},
        "phases": {
            name: {"on-failure": "ABORT", "commands": list(commands)} for name, commands in phases.items()
        },
    }
    if files:
        document["artifacts"] = {"files": list(files)}
    return _yaml(document)


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=1000)
