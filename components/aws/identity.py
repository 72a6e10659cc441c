"""IAM roles of least privilege: one for each function, task or ServiceAccount."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.scope import Scope

_ROLE_NAME_LIMIT = 64


@dataclass(frozen=True)
class Statement:
    """One statement of a policy document."""

    actions: Sequence[str]
    """IAM actions; never `*` alone."""
    resources: Sequence[Input[str]]
    """ARNs; `*` only where the service knows no resource-level permission."""
    conditions: Mapping[str, Mapping[str, Input[Any]]] = field(default_factory=dict)
    """Condition keys with their values, by operator."""
    effect: str = "Allow"
    """`Allow` or `Deny`."""
    principals: Mapping[str, Input[Any]] = field(default_factory=dict)
    """Principals by kind (`Service`, `AWS`), for resource policies only."""
    sid: str | None = None
    """Name of the statement, letters and digits."""


def policy(statements: Sequence[Statement]) -> Output[str]:
    """A policy document as JSON text; unknown while an ARN in it is."""
    return Output.json_dumps(policy_document(statements))


def policy_document(statements: Sequence[Statement]) -> dict[str, Any]:
    """The document of `policy` before it becomes text."""
    return {"Version": "2012-10-17", "Statement": [_document(item) for item in statements]}


def trust(service: str, scope: Scope, *, same_account: bool = False) -> str:
    """Trust policy by which `service` may take a role.

    `same_account` allows it only on behalf of this account, against confused deputies; not every service
    tells the account when it takes a role (CloudTrail, EC2, EKS and Lambda do not), and those could then
    never take it.
    """
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sts:AssumeRole",
    }
    if same_account:
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": scope.account}}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def pod_trust(scope: Scope, cluster: str) -> str:
    """Trust policy by which EKS Pod Identity hands a role to pods of `cluster`.

    Which cluster it acts for, it tells by a tag of the session; the association is no `aws:SourceArn`.
    """
    source = {
        "aws:SourceAccount": scope.account,
        "aws:RequestTag/eks-cluster-arn": scope.arn("eks", f"cluster/{cluster}"),
    }
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "pods.eks.amazonaws.com"},
                    "Action": ["sts:AssumeRole", "sts:TagSession"],
                    "Condition": {"StringEquals": source},
                }
            ],
        }
    )


@dataclass(frozen=True)
class RoleArgs:
    """A role and what it may do."""

    scope: Scope
    """Names and account."""
    trust: Input[str]
    """Trust policy, from `trust` or `pod_trust`."""
    statements: Sequence[Statement] = ()
    """What the role may do."""
    managed: Sequence[str] = ()
    """Names of AWS managed policies, with their path, such as `service-role/AmazonEBSCSIDriverPolicy`."""


class Role(ComponentResource):
    """An IAM role; the component's name is the last part of the role's."""

    arn: Output[str]
    """ARN of the role; unknown until its policies are attached too."""
    role_name: str
    """Name of the role."""

    def __init__(self, name: str, args: RoleArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Role", name, None, opts)
        child = ResourceOptions(parent=self)
        self.role_name = args.scope.name(name, limit=_ROLE_NAME_LIMIT)
        role = aws.iam.Role(
            name,
            name=self.role_name,
            assume_role_policy=args.trust,
            tags=args.scope.tags(self.role_name),
            opts=child,
        )
        attached: list[Output[str]] = []
        if args.statements:
            made = aws.iam.RolePolicy(
                name, name=self.role_name, role=role.name, policy=policy(args.statements), opts=child
            )
            attached.append(made.id)
        for managed in args.managed:
            short = managed.rsplit("/", 1)[-1]
            arn = f"arn:{args.scope.partition}:iam::aws:policy/{managed}"
            attachment = aws.iam.RolePolicyAttachment(
                f"{name}-{short}", role=role.name, policy_arn=arn, opts=child
            )
            attached.append(attachment.id)
        # Whoever uses the role waits for its permissions: a service that starts without them fails.
        self.arn = Output.all(role.arn, *attached).apply(lambda values: str(values[0]))
        # A policy's text is unknown as a whole while one ARN in it is; the document shows what it allows.
        documents = {f"{name}.policy": policy_document(args.statements)}
        self.register_outputs({"arn": self.arn, "documents": documents})


@dataclass(frozen=True)
class PodRoleArgs:
    """The role of one ServiceAccount, through EKS Pod Identity."""

    scope: Scope
    """Names and account."""
    cluster: str
    """Name of the EKS cluster."""
    cluster_ready: Input[str]
    """An output of the cluster that is known once it exists."""
    namespace: str
    """Namespace of the ServiceAccount."""
    service_account: str
    """Name of the ServiceAccount."""
    statements: Sequence[Statement] = ()
    """What its pods may do."""
    managed: Sequence[str] = ()
    """Names of AWS managed policies, with their path."""


class PodRole(ComponentResource):
    """A role that only the pods of one ServiceAccount get."""

    arn: Output[str]
    """ARN of the role."""

    def __init__(self, name: str, args: PodRoleArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:PodRole", name, None, opts)
        role = Role(
            f"pod-{name}",
            RoleArgs(
                scope=args.scope,
                trust=pod_trust(args.scope, args.cluster),
                statements=args.statements,
                managed=args.managed,
            ),
            ResourceOptions(parent=self),
        )
        self.arn = role.arn
        aws.eks.PodIdentityAssociation(
            name,
            cluster_name=args.cluster_ready,
            namespace=args.namespace,
            service_account=args.service_account,
            role_arn=role.arn,
            tags=args.scope.tags(args.scope.name(name)),
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({"arn": self.arn})


def _document(statement: Statement) -> dict[str, Any]:
    found: dict[str, Any] = {"Effect": statement.effect}
    if statement.sid:
        found["Sid"] = statement.sid
    if statement.principals:
        found["Principal"] = dict(statement.principals)
    found["Action"] = list(statement.actions)
    found["Resource"] = list(statement.resources)
    if statement.conditions:
        found["Condition"] = {key: dict(value) for key, value in statement.conditions.items()}
    return found
