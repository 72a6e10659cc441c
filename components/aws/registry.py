"""Registries of container images."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, ResourceOptions

from components.aws.scope import Scope

_NAME = re.compile(r"[a-z0-9]+(?:[._/-][a-z0-9]+)*")
_NAME_LIMIT = 256
_UNTAGGED_DAYS = 1
# A registry that keeps everything is one that nobody cleans up.
_MOST_IMAGES = 1000
_PULL = (
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:DescribeImages",
    "ecr:GetDownloadUrlForLayer",
)
_PUSH = ("ecr:CompleteLayerUpload", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart")


@dataclass(frozen=True)
class RegistryArgs:
    """Which repositories there are and what they keep."""

    scope: Scope
    """Names and account."""
    key_arn: Input[str]
    """Key of the images; cannot be changed afterwards."""
    repositories: Sequence[str]
    """Names without the stack's prefix, such as `app`: lower-case letters, digits and `.`, `_`, `-`, `/`."""
    keep_images: int
    """Tagged images kept in each repository, 1 to 1000; older ones expire. What runs must be among them."""
    protect: bool = False
    """Refuses the deletion of the repositories by Pulumi; else they are deleted with their images."""


class Registry(ComponentResource):
    """ECR repositories whose tags never move and whose images are scanned when pushed."""

    repository_urls: dict[str, str]
    """Address to push to and pull from, by repository name."""
    repository_arns: dict[str, str]
    """ARN by repository name."""

    def __init__(self, name: str, args: RegistryArgs, opts: ResourceOptions | None = None) -> None:
        _check(args)
        super().__init__("tradestack:aws:Registry", name, None, opts)
        scope = args.scope
        host = f"{scope.account}.dkr.ecr.{scope.region}.amazonaws.com"
        full = {item: f"{scope.prefix}/{item}" for item in args.repositories}
        self.repository_urls = {item: f"{host}/{path}" for item, path in full.items()}
        self.repository_arns = {item: scope.arn("ecr", f"repository/{path}") for item, path in full.items()}
        for item, path in full.items():
            self._make_repository(f"{name}-{item.replace('/', '-')}", path, args)
        self.register_outputs({"repository_urls": self.repository_urls})

    def _make_repository(self, name: str, path: str, args: RegistryArgs) -> None:
        child = ResourceOptions(parent=self)
        repository = aws.ecr.Repository(
            name,
            name=path,
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            encryption_configurations=[
                aws.ecr.RepositoryEncryptionConfigurationArgs(encryption_type="KMS", kms_key=args.key_arn)
            ],
            force_delete=not args.protect,
            tags=args.scope.tags(path),
            opts=ResourceOptions(parent=self, protect=args.protect),
        )
        aws.ecr.LifecyclePolicy(
            name, repository=repository.name, policy=_lifecycle(args.keep_images), opts=child
        )
        aws.ecr.RepositoryPolicy(name, repository=repository.name, policy=_access(args.scope), opts=child)


def _access(scope: Scope) -> str:
    """Only this account pulls and pushes, and of its roles those whose own policies say so."""
    # A repository's policy names no resource: ECR refuses one that does.
    account = {
        "Sid": "Account",
        "Effect": "Allow",
        "Principal": {"AWS": scope.arn("iam", "root", region="")},
        "Action": [*_PULL, *_PUSH],
    }
    # Lambda pulls an image itself, before any role of the function's is there.
    functions = {
        "Sid": "Functions",
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Condition": {"StringLike": {"aws:sourceArn": scope.arn("lambda", "function:*")}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [account, functions]})


def _lifecycle(keep: int) -> str:
    untagged = {
        "tagStatus": "untagged",
        "countType": "sinceImagePushed",
        "countUnit": "days",
        "countNumber": _UNTAGGED_DAYS,
    }
    tagged = {
        "tagStatus": "tagged",
        "tagPatternList": ["*"],
        "countType": "imageCountMoreThan",
        "countNumber": keep,
    }
    rules = [("Layers that no tag needs", untagged), (f"The last {keep} images stay", tagged)]
    return json.dumps(
        {
            "rules": [
                {
                    "rulePriority": number,
                    "description": description,
                    "selection": selection,
                    "action": {"type": "expire"},
                }
                for number, (description, selection) in enumerate(rules, 1)
            ]
        }
    )


def _check(args: RegistryArgs) -> None:
    for number, item in enumerate(args.repositories):
        if not _NAME.fullmatch(item) or len(f"{args.scope.prefix}/{item}") > _NAME_LIMIT:
            raise ValueError(
                f"repository '{item}': lower-case letters and digits, joined by one of . _ - /, "
                f"at most {_NAME_LIMIT} characters with the stack's prefix"
            )
        if item in args.repositories[:number]:
            raise ValueError(f"repository '{item}': given twice")
    if not 1 <= args.keep_images <= _MOST_IMAGES:
        raise ValueError(f"images kept {args.keep_images}: from 1 to {_MOST_IMAGES}")
