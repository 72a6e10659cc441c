"""From a commit to a running image: CodePipeline, CodeBuild and CodeDeploy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.buildspec import IMAGE_PLACEHOLDER, Rollout, build_spec, deploy_spec
from components.aws.delivery_access import (
    artifact_statements,
    network_statements,
    pipeline_statements,
    push_statements,
    token_statements,
)
from components.aws.identity import Role, RoleArgs, Statement, trust
from components.aws.scope import Scope
from components.skips import Skip

BUILD_IMAGE = "public.ecr.aws/docker/library/debian:12"
"""What builds run on: the system that `infra/setup.sh` knows."""

_SOURCE, _IMAGE, _ROLLOUT = "source", "image", "rollout"
_EVENTS = (
    "codepipeline-pipeline-pipeline-execution-failed",
    "codepipeline-pipeline-pipeline-execution-succeeded",
    "codepipeline-pipeline-manual-approval-needed",
)


@dataclass(frozen=True)
class BuildNetwork:
    """Where builds run, so that they reach a private API server."""

    vpc_id: Input[str]
    """Network."""
    subnet_ids: Sequence[Input[str]]
    """Private subnets with a way to the internet."""


@dataclass(frozen=True)
class DeliveryArgs:
    """What is built from where, and what it is rolled out to."""

    scope: Scope
    """Names and account."""
    stack: str
    """Stack that is rolled out."""
    connection_arn: str
    """CodeConnections connection to GitHub; a person confirms it once in the console."""
    repository: str
    """`owner/name` on GitHub."""
    branch: str
    """Branch whose commits are rolled out."""
    artifact_bucket: str
    """Bucket between the stages."""
    artifact_key_arn: Input[str]
    """Key of that bucket."""
    log_key_arn: Input[str]
    """Key of the log groups."""
    log_days: int
    """Days for which logs of builds are kept."""
    alerts_topic_arn: Input[str]
    """Topic that hears of failures, successes and of approvals that are waited for; its policy must let
    `codestar-notifications` publish."""
    registry_arn: Input[str]
    """ECR repository of the app's image."""
    deployer_role_arn: str
    """Role that may change the stack. It is not of the stack: nobody may grant himself what he needs."""
    backend: str
    """Where the engine keeps state, such as `https://api.pulumi.com` or `s3://bucket`."""
    token_secret_arn: str | None = None
    """Secret with the engine's access token as plain text, for a backend that wants one."""
    token_key_arn: Input[str] | None = None
    """Customer key of that secret."""
    rollout: Rollout | None = None
    """ECS service that CodeDeploy rolls out after the update; None leaves that out."""
    task_role_arns: Sequence[Input[str]] = ()
    """Task and execution roles of that service, which CodePipeline passes on."""
    approval: bool = True
    """A person must approve before anything is changed."""
    tests: str = "make test"
    """Command that must succeed before the image is built."""
    network: BuildNetwork | None = None
    """Network of the builds; None runs them in AWS's own."""
    image: str = BUILD_IMAGE
    """Image that builds run on."""
    compute: str = "BUILD_GENERAL1_LARGE"
    """Size of the build machine: 8 CPUs and 15 GB; tests start a Kubernetes node."""
    timeout_minutes: int = 90
    """After which a build is ended, at most 2160."""
    engine: str = "3.272.0"
    """Version of the Pulumi engine; the same as of its Python package."""


class Delivery(ComponentResource):
    """A pipeline of source, build, approval and deployment, whose roles may do only that."""

    pipeline_name: str
    """Name of the pipeline."""
    security_group_id: Output[str] | None
    """Group of the builds, which the API server must let in; None without a network."""

    def __init__(self, name: str, args: DeliveryArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Delivery", name, None, opts)
        self._args = args
        self.pipeline_name = args.scope.name(name, limit=100)
        self.security_group_id = self._security_group(name, args.network) if args.network else None
        build = self._project(
            f"{name}-build",
            build_spec(args.stack, args.tests),
            (*self._work(), *push_statements(args)),
            privileged=True,
        )
        deploy = self._project(
            f"{name}-deploy",
            deploy_spec(
                args.stack,
                image=_IMAGE,
                pulumi=args.engine,
                deployer_role_arn=args.deployer_role_arn,
                region=args.scope.region,
                rollout=args.rollout,
            ),
            (
                *self._work(),
                Statement(("sts:AssumeRole",), (args.deployer_role_arn,)),
                *token_statements(args),
            ),
            environment=self._engine_environment(),
        )
        role = Role(
            f"{name}-pipeline",
            RoleArgs(
                args.scope,
                trust("codepipeline.amazonaws.com", args.scope, same_account=True),
                pipeline_statements(args, (f"{name}-build", f"{name}-deploy")),
            ),
            ResourceOptions(parent=self),
        )
        pipeline = aws.codepipeline.Pipeline(
            name,
            name=self.pipeline_name,
            role_arn=role.arn,
            pipeline_type="V2",
            # A commit that comes while another is rolled out waits; none is passed over half-way.
            execution_mode="QUEUED",
            artifact_stores=[
                {
                    "type": "S3",
                    "location": args.artifact_bucket,
                    "encryption_key": {"type": "KMS", "id": args.artifact_key_arn},
                }
            ],
            stages=self._stages(build, deploy),
            tags=args.scope.tags(self.pipeline_name),
            opts=ResourceOptions(parent=self),
        )
        aws.codestarnotifications.NotificationRule(
            name,
            name=args.scope.name(name, limit=64),
            resource=pipeline.arn,
            detail_type="BASIC",
            event_type_ids=list(_EVENTS),
            targets=[{"type": "SNS", "address": args.alerts_topic_arn}],
            tags=args.scope.tags(self.pipeline_name),
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({"pipeline_name": self.pipeline_name})

    def _stages(self, build: Output[str], deploy: Output[str]) -> list[Any]:
        args = self._args
        source = {
            "ConnectionArn": args.connection_arn,
            "FullRepositoryId": args.repository,
            "BranchName": args.branch,
            "OutputArtifactFormat": "CODE_ZIP",
            "DetectChanges": "true",
        }
        update = _action(
            "Update",
            "Build",
            "CodeBuild",
            {"ProjectName": deploy, "PrimarySource": _SOURCE},
            inputs=[_SOURCE, _IMAGE],
            outputs=[_ROLLOUT] if args.rollout else [],
        )
        stages: list[Any] = [
            {
                "name": "Source",
                "actions": [
                    _action("GitHub", "Source", "CodeStarSourceConnection", source, outputs=[_SOURCE])
                ],
            },
            {
                "name": "Build",
                "actions": [
                    _action(
                        "Image",
                        "Build",
                        "CodeBuild",
                        {"ProjectName": build},
                        inputs=[_SOURCE],
                        outputs=[_IMAGE],
                    )
                ],
            },
        ]
        if args.approval:
            words = {"CustomData": f"Roll the new image out to {args.stack}?"}
            stages.append({"name": "Approval", "actions": [_action("Approve", "Approval", "Manual", words)]})
        shift = [_traffic_shift(args.rollout)] if args.rollout else []
        stages.append({"name": "Deploy", "actions": [update, *shift], "on_failure": {"result": "ROLLBACK"}})
        return stages

    def _project(
        self,
        name: str,
        spec: str,
        statements: Sequence[Statement],
        *,
        privileged: bool = False,
        environment: Sequence[aws.codebuild.ProjectEnvironmentEnvironmentVariableArgsDict] = (),
    ) -> Output[str]:
        """A CodeBuild project that takes its source from the pipeline; its name."""
        args, scope = self._args, self._args.scope
        child = ResourceOptions(parent=self)
        project_name = scope.name(name, limit=150)
        group_name = f"/aws/codebuild/{project_name}"
        group = aws.cloudwatch.LogGroup(
            name,
            name=group_name,
            kms_key_id=args.log_key_arn,
            retention_in_days=args.log_days,
            tags=scope.tags(group_name),
            opts=child,
        )
        streams = scope.arn("logs", f"log-group:{group_name}:log-stream:*")
        role = Role(
            name,
            RoleArgs(
                scope,
                trust("codebuild.amazonaws.com", scope, same_account=True),
                (Statement(("logs:CreateLogStream", "logs:PutLogEvents"), (streams,)), *statements),
            ),
            child,
        )
        project = aws.codebuild.Project(
            name,
            name=project_name,
            service_role=role.arn,
            encryption_key=args.artifact_key_arn,
            build_timeout=args.timeout_minutes,
            queued_timeout=480,
            artifacts={"type": "CODEPIPELINE"},
            source={"type": "CODEPIPELINE", "buildspec": spec},
            environment={
                "type": "LINUX_CONTAINER",
                "compute_type": args.compute,
                "image": args.image,
                "image_pull_credentials_type": "SERVICE_ROLE",
                "privileged_mode": privileged,
                "environment_variables": list(environment),
            },
            logs_config={"cloudwatch_logs": {"status": "ENABLED", "group_name": group.name}},
            vpc_config={
                "vpc_id": args.network.vpc_id,
                "subnets": list(args.network.subnet_ids),
                "security_group_ids": [self.security_group_id],
            }
            if args.network and self.security_group_id
            else None,
            tags=scope.tags(project_name),
            opts=child,
        )
        return project.name

    def _work(self) -> list[Statement]:
        """What every build needs: the pipeline's artifacts, and its place in the network."""
        return [*artifact_statements(self._args), *network_statements(self._args)]

    def _engine_environment(self) -> list[aws.codebuild.ProjectEnvironmentEnvironmentVariableArgsDict]:
        variables: list[aws.codebuild.ProjectEnvironmentEnvironmentVariableArgsDict] = [
            {"name": "PULUMI_BACKEND_URL", "value": self._args.backend, "type": "PLAINTEXT"}
        ]
        if self._args.token_secret_arn is not None:
            secret = self._args.token_secret_arn
            variables.append({"name": "PULUMI_ACCESS_TOKEN", "value": secret, "type": "SECRETS_MANAGER"})
        return variables

    def _security_group(self, name: str, network: BuildNetwork) -> Output[str]:
        group_name = self._args.scope.name(name, "builds", limit=255)
        group = aws.ec2.SecurityGroup(
            f"{name}-builds",
            name=group_name,
            description="Builds of the pipeline",
            vpc_id=network.vpc_id,
            tags=self._args.scope.tags(group_name),
            opts=ResourceOptions(parent=self),
        )
        # Packages come from mirrors over HTTP, signed by their distribution.
        for what, port in (("https", 443), ("http", 80)):
            aws.vpc.SecurityGroupEgressRule(
                f"{name}-builds-{what}",
                security_group_id=group.id,
                description=f"Packages, registries and AWS over {what}",
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                cidr_ipv4="0.0.0.0/0",
                tags=self._args.scope.tags(group_name),
                opts=ResourceOptions(parent=self),
            )
        return group.id


def _action(
    name: str,
    category: str,
    provider: str,
    configuration: dict[str, Any],
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    order: int = 1,
) -> dict[str, Any]:
    return {
        "name": name,
        "category": category,
        "owner": "AWS",
        "provider": provider,
        "version": "1",
        "configuration": configuration,
        "input_artifacts": list(inputs),
        "output_artifacts": list(outputs),
        "run_order": order,
    }


def _traffic_shift(rollout: Rollout) -> dict[str, Any]:
    configuration = {
        "ApplicationName": rollout.application,
        "DeploymentGroupName": rollout.deployment_group,
        "TaskDefinitionTemplateArtifact": _ROLLOUT,
        "TaskDefinitionTemplatePath": "taskdef.json",
        "AppSpecTemplateArtifact": _ROLLOUT,
        "AppSpecTemplatePath": "appspec.yaml",
        "Image1ArtifactName": _ROLLOUT,
        "Image1ContainerName": IMAGE_PLACEHOLDER,
    }
    return _action("Shift", "Deploy", "CodeDeployToECS", configuration, inputs=[_ROLLOUT], order=2)


SKIPS: tuple[Skip, ...] = (
    Skip(
        "CKV_AWS_316",
        "aws:codebuild/project:Project",
        "The build makes container images and its tests start a Kubernetes node; the project that changes "
        "the stack is not privileged.",
        name="*-build",
    ),
)
"""Findings that are accepted here."""
