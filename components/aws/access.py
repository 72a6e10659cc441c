"""Who may reach a data service over the network, and where its logs go."""

from collections.abc import Mapping

import pulumi_aws as aws
from pulumi import Input, Resource, ResourceOptions

from components.aws.scope import Scope
from components.skips import Skip


def make_access(
    name: str,
    clients: Mapping[str, Input[str]],
    ports: Mapping[str, int],
    *,
    scope: Scope,
    vpc_id: Input[str],
    what: str,
    parent: Resource,
) -> aws.ec2.SecurityGroup:
    """A security group that lets each client's group reach each port over TCP, and nothing out.

    `clients` are security group ids by client name, `ports` are by what they serve; both names end up in the
    descriptions of the rules. `what` describes the service and must not change: AWS would replace the group.
    """
    group_name = scope.name(name, limit=255)
    group = aws.ec2.SecurityGroup(
        name,
        name=group_name,
        description=what,
        vpc_id=vpc_id,
        tags=scope.tags(group_name),
        opts=ResourceOptions(parent=parent),
    )
    for client, client_group_id in clients.items():
        add_rules(name, group, client, client_group_id, ports, scope=scope, parent=parent)
    return group


def add_rules(
    name: str,
    group: aws.ec2.SecurityGroup,
    client: str,
    client_group_id: Input[str],
    ports: Mapping[str, int],
    *,
    scope: Scope,
    parent: Resource,
) -> None:
    """Let one more client's group reach some ports of a group that `make_access` made."""
    for use, port in ports.items():
        aws.vpc.SecurityGroupIngressRule(
            f"{name}-{client}-{use}",
            security_group_id=group.id,
            description=f"{use} from {client}",
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            referenced_security_group_id=client_group_id,
            tags=scope.tags(scope.name(name, client, use, limit=255)),
            opts=ResourceOptions(parent=parent),
        )


def add_network(
    name: str,
    group: aws.ec2.SecurityGroup,
    client: str,
    cidr: str,
    port: int,
    *,
    scope: Scope,
    parent: Resource,
) -> None:
    """Let a network reach a port of a group that `make_access` made."""
    aws.vpc.SecurityGroupIngressRule(
        f"{name}-{client}",
        security_group_id=group.id,
        description=client,
        ip_protocol="tcp",
        from_port=port,
        to_port=port,
        cidr_ipv4=cidr,
        tags=scope.tags(scope.name(name, client, limit=255)),
        opts=ResourceOptions(parent=parent),
    )


def allow_api(
    name: str, cluster_group_id: Input[str], client_group_id: Input[str], *, scope: Scope, parent: Resource
) -> None:
    """Let a client inside the VPC reach the Kubernetes API, which answers in the cluster's group."""
    aws.vpc.SecurityGroupIngressRule(
        f"{name}-api",
        security_group_id=cluster_group_id,
        description=f"Kubernetes API from {name}",
        ip_protocol="tcp",
        from_port=443,
        to_port=443,
        referenced_security_group_id=client_group_id,
        tags=scope.tags(scope.name(name, "api", limit=255)),
        opts=ResourceOptions(parent=parent),
    )


def make_log_group(
    name: str, path: str, *, scope: Scope, key_arn: Input[str], days: int, parent: Resource
) -> aws.cloudwatch.LogGroup:
    """An encrypted log group `path`, its records kept for `days`.

    Services that are told to log into a group that does not exist make one, unencrypted and kept for ever.
    """
    return aws.cloudwatch.LogGroup(
        name,
        name=path,
        kms_key_id=key_arn,
        retention_in_days=days,
        tags=scope.tags(path),
        opts=ResourceOptions(parent=parent),
    )


SKIPS: tuple[Skip, ...] = (
    Skip(
        "CKV_AWS_338",
        "aws:cloudwatch/logGroup:LogGroup",
        "Logs are kept as long as the stack says; the requirement is 30 days, and what must be kept for "
        "years is in the audit trail and the archive bucket.",
    ),
)
"""Findings that are accepted here."""
