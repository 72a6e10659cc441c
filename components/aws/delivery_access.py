"""What the roles of the pipeline may do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.aws.identity import Statement

if TYPE_CHECKING:
    from components.aws.delivery import DeliveryArgs

_PUSH = (
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
)


def pipeline_statements(args: "DeliveryArgs", projects: Sequence[str]) -> list[Statement]:
    """What the pipeline may do: read the source, run its builds and its rollout, move its artifacts."""
    scope = args.scope
    builds = [scope.arn("codebuild", f"project/{scope.name(item, limit=150)}") for item in projects]
    statements = [
        *artifact_statements(args),
        Statement(
            ("codeconnections:UseConnection", "codestar-connections:UseConnection"), (args.connection_arn,)
        ),
        Statement(("codebuild:BatchGetBuilds", "codebuild:StartBuild"), builds),
    ]
    if args.rollout is None:
        return statements
    application = args.rollout.application
    family = scope.arn("ecs", f"task-definition/{args.rollout.family}:*")
    tasks = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    created = {"ecs:CreateAction": "RegisterTaskDefinition"}
    return [
        *statements,
        Statement(
            ("codedeploy:CreateDeployment", "codedeploy:GetDeployment"),
            (scope.arn("codedeploy", f"deploymentgroup:{application}/{args.rollout.deployment_group}"),),
        ),
        Statement(
            (
                "codedeploy:GetApplication",
                "codedeploy:GetApplicationRevision",
                "codedeploy:RegisterApplicationRevision",
            ),
            (scope.arn("codedeploy", f"application:{application}"),),
        ),
        Statement(("codedeploy:GetDeploymentConfig",), (scope.arn("codedeploy", "deploymentconfig:*"),)),
        Statement(("ecs:RegisterTaskDefinition",), (family,)),
        Statement(("ecs:TagResource",), (family,), {"StringEquals": created}),
        *(
            [Statement(("iam:PassRole",), args.task_role_arns, {"StringEquals": tasks})]
            if args.task_role_arns
            else []
        ),
    ]


def artifact_statements(args: "DeliveryArgs") -> list[Statement]:
    """Reading and writing what goes from stage to stage."""
    bucket = f"arn:{args.scope.partition}:s3:::{args.artifact_bucket}"
    return [
        Statement(("s3:GetBucketLocation", "s3:GetBucketVersioning"), (bucket,)),
        Statement(("s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"), (f"{bucket}/*",)),
        Statement(("kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey*"), (args.artifact_key_arn,)),
    ]


def push_statements(args: "DeliveryArgs") -> list[Statement]:
    """Pushing to the one repository."""
    # A login to ECR is for the account, not for a repository.
    login = Statement(("ecr:GetAuthorizationToken",), ("*",))
    return [login, Statement(_PUSH, (args.registry_arn,))]


def token_statements(args: "DeliveryArgs") -> list[Statement]:
    """Reading the engine's token, where there is one."""
    if args.token_secret_arn is None:
        return []
    secret = Statement(("secretsmanager:GetSecretValue",), (args.token_secret_arn,))
    key = [Statement(("kms:Decrypt",), (args.token_key_arn,))] if args.token_key_arn is not None else []
    return [secret, *key]


def network_statements(args: "DeliveryArgs") -> list[Statement]:
    """A build's place in the network, where it has one."""
    if args.network is None:
        return []
    scope = args.scope
    interfaces = scope.arn("ec2", "network-interface/*")
    places = (scope.arn("ec2", "security-group/*"), scope.arn("ec2", "subnet/*"))
    describe = (
        "ec2:DescribeDhcpOptions",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
    )
    service = {"StringEquals": {"ec2:AuthorizedService": "codebuild.amazonaws.com"}}
    return [
        # What describes knows no resources; interfaces have no names before they exist.
        Statement(describe, ("*",)),
        Statement(("ec2:CreateNetworkInterface",), (interfaces, *places)),
        Statement(("ec2:DeleteNetworkInterface",), (interfaces,)),
        Statement(("ec2:CreateNetworkInterfacePermission",), (interfaces,), service),
    ]
