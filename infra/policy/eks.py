"""Assertions about EKS clusters, their nodes and the roles of pods."""

import json
import re
from collections.abc import Iterator
from typing import Any

from infra.plan.model import UNKNOWN
from infra.policy.model import Estate, Resource, dig, opened
from infra.policy.registry import assertion
from infra.policy.rules import (
    EVERYWHERE,
    SUBNET,
    customer_key,
    is_anyone,
    is_set,
    many,
    number,
    statements,
    unread,
    zones,
)

_CLUSTER = "aws:eks/cluster:Cluster"
_NODES = "aws:eks/nodeGroup:NodeGroup"
_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
_ADDON = "aws:eks/addon:Addon"
_ASSOCIATION = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
_ROLE = "aws:iam/role:Role"
_ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
_POLICY = "aws:iam/policy:Policy"
_ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"

_OLDEST_MINOR = 35
"""1.34 leaves standard support on 2026-12-02."""
_LOGS = frozenset({"api", "audit", "authenticator", "controllerManager", "scheduler"})
_TOO_MUCH = ("AdministratorAccess", "PowerUserAccess", "IAMFullAccess")
_POD_IDENTITY = "pods.eks.amazonaws.com"
_ROUTE_TARGET = "gatewayId"
_GATEWAY = "aws:ec2/internetGateway:InternetGateway"
_ROUTE = "aws:ec2/route:Route"
_TABLE = "aws:ec2/routeTable:RouteTable"
_TABLE_ASSOCIATION = "aws:ec2/routeTableAssociation:RouteTableAssociation"
_ZONES = 3


@assertion(
    1,
    "The API server is private, or public to named networks only",
    "EKS.1",
    on=[_CLUSTER],
    family="EKS",
    severity="critical",
)
def endpoint(cluster: Resource, estate: Estate) -> Iterator[str]:
    """The private endpoint is on; a public one has a list of networks, and everybody is not among them."""
    if not is_set(cluster, "vpcConfig.endpointPrivateAccess"):
        yield "the private endpoint is off"
    if is_set(cluster, "vpcConfig.endpointPublicAccess", False):
        return
    networks = cluster.items("vpcConfig.publicAccessCidrs")
    if not networks or UNKNOWN in networks or set(networks) & set(EVERYWHERE):
        yield "the public endpoint is open to everybody; name networks, or switch it off"


@assertion(2, "The Kubernetes version is pinned and supported", "EKS.2", on=[_CLUSTER], family="EKS")
def version(cluster: Resource, estate: Estate) -> Iterator[str]:
    """A version in standard support is written down."""
    found = re.fullmatch(r"1\.(\d+)", str(cluster.get("version")))
    if found is None:
        yield "no version is pinned"
    elif int(found[1]) < _OLDEST_MINOR:
        yield f"version {found[0]} is older than 1.{_OLDEST_MINOR}, the oldest in standard support"


@assertion(3, "Kubernetes Secrets are encrypted under a customer key", "EKS.3", on=[_CLUSTER], family="EKS")
def secrets(cluster: Resource, estate: Estate) -> Iterator[str]:
    """Envelope encryption of Secrets is on."""
    if not customer_key(cluster, "encryptionConfig.provider.keyArn", estate):
        yield "Secrets have no customer key"
    if "secrets" not in cluster.items("encryptionConfig.resources"):
        yield "encryptionConfig does not cover secrets"


@assertion(4, "All five kinds of control plane logs are kept", "EKS.8", on=[_CLUSTER], family="EKS")
def logs(cluster: Resource, estate: Estate) -> Iterator[str]:
    """api, audit, authenticator, controllerManager and scheduler."""
    missing = _LOGS - {item for item in cluster.items("enabledClusterLogTypes") if isinstance(item, str)}
    if missing:
        yield f"control plane logs are missing: {', '.join(sorted(missing))}"


@assertion(
    5, "Access is by access entries only; the creator is no administrator", on=[_CLUSTER], family="EKS"
)
def access(cluster: Resource, estate: Estate) -> Iterator[str]:
    """Authentication mode API, without the creator's own rights."""
    if not is_set(cluster, "accessConfig.authenticationMode", "API"):
        yield "authenticationMode is not API"
    if not is_set(cluster, "accessConfig.bootstrapClusterCreatorAdminPermissions", False):
        yield "the creator becomes administrator of the cluster"


@assertion(6, "Nodes are in private subnets of three zones, without SSH", on=[_NODES], family="EKS")
def nodes(group: Resource, estate: Estate) -> Iterator[str]:
    """No subnet of theirs has a route to an internet gateway."""
    if group.given("remoteAccess"):
        yield "SSH access to the nodes is on"
    for template in estate.targets(group, "launchTemplate", _TEMPLATE):
        if template.given("keyName"):
            yield "the launch template has an SSH key"
    found = zones(group, "subnetIds", estate)
    if len(found) < _ZONES:
        yield f"the nodes' subnets are in {len(found)} zones known, not {_ZONES}"
    for subnet in estate.targets(group, "subnetIds", SUBNET):
        if is_public(subnet, estate):
            yield f"the subnet {subnet.name} has a route to an internet gateway"


def is_public(subnet: Resource, estate: Estate) -> bool:
    """Whether a subnet's route table leads to an internet gateway."""
    for link in estate.users(subnet, "subnetId", _TABLE_ASSOCIATION):
        for table in estate.targets(link, "routeTableId", _TABLE):
            routes = estate.users(table, "routeTableId", _ROUTE)
            if any(estate.targets(route, _ROUTE_TARGET, _GATEWAY) for route in routes):
                return True
            if estate.targets(table, "routes", _GATEWAY):
                return True
    return False


@assertion(
    7,
    "Nodes take instance metadata by IMDSv2 only and encrypt their volumes",
    "EC2.170",
    "EC2.181",
    on=[_TEMPLATE, _NODES],
    family="EKS",
)
def instances(item: Resource, estate: Estate) -> Iterator[str]:
    """Tokens are required and do not leave the node: a hop limit of 1."""
    if item.type == _NODES:
        if not estate.targets(item, "launchTemplate", _TEMPLATE):
            yield "no launch template of the stack: metadata options and volumes are AWS's defaults"
        return
    if not is_set(item, "metadataOptions.httpTokens", "required"):
        yield "IMDSv1 is allowed: httpTokens is not required"
    if number(item, "metadataOptions.httpPutResponseHopLimit") != 1:
        yield "containers can reach the node's metadata: the hop limit is not 1"
    devices = item.items("blockDeviceMappings")
    if not devices:
        yield "the root volume's encryption is not set"
    for device in devices:
        encrypted = str(dig(device, "ebs.encrypted", "")).lower() == "true"
        if not (encrypted and dig(device, "ebs.kmsKeyId")):
            yield "a volume is not encrypted under a customer key"


@assertion(
    8,
    "One role for each ServiceAccount, with a narrow trust and no `*`",
    on=[_ASSOCIATION, _ROLE, _ROLE_POLICY, _POLICY, _ATTACHMENT],
    family="EKS",
    severity="critical",
)
def roles(item: Resource, estate: Estate) -> Iterator[str]:
    """Trust names who may take the role; permissions name actions."""
    if item.type == _ASSOCIATION:
        for role in estate.targets(item, "roleArn", _ROLE):
            if len(estate.users(role, "roleArn", _ASSOCIATION)) > 1:
                yield f"the role {role.name} belongs to more than one ServiceAccount"
    elif item.type == _ATTACHMENT:
        arn = item.get("policyArn")
        if isinstance(arn, str) and arn.endswith(_TOO_MUCH):
            yield f"{arn.rsplit('/', 1)[-1]} allows far more than one role needs"
    elif item.type == _ROLE:
        yield from _trust(item)
    else:
        yield from _permissions(item.get("policy"))


def _trust(role: Resource) -> Iterator[str]:
    found = statements(role.get("assumeRolePolicy"))
    if found is None:
        yield unread("the trust policy")
    for statement in found or []:
        principal, condition = statement.get("Principal"), statement.get("Condition") or {}
        keys = {key.rsplit(":", 1)[-1]: value for group in condition.values() for key, value in group.items()}
        if is_anyone(principal):
            yield "anybody may take the role"
        elif isinstance(principal, dict) and _POD_IDENTITY in many(principal.get("Service")):
            if not keys.keys() & {"SourceAccount", "SourceArn"}:
                yield "EKS of any account may take the role: SourceAccount and SourceArn are missing"
        elif isinstance(principal, dict) and "Federated" in principal:
            subjects = many(keys.get("sub"))
            if not subjects or "aud" not in keys or any("*" in str(item) for item in subjects):
                yield "more than one ServiceAccount may take the role: sub or aud is missing or has a `*`"


def _permissions(document: Any) -> Iterator[str]:
    found = statements(document)
    if found is None:
        yield unread("the policy")
    for statement in found or []:
        if statement.get("Effect") != "Allow":
            continue
        actions = [str(action) for action in many(statement.get("Action"))]
        if "*" in actions or "NotAction" in statement:
            yield "the policy allows every action"
        whole = [action for action in actions if action.endswith(":*")]
        if whole and "*" in many(statement.get("Resource")):
            yield f"the policy allows {', '.join(whole)} on every resource"


@assertion(9, "Network policies are enforced; add-ons are pinned", on=[_CLUSTER, _ADDON], family="EKS")
def addons(item: Resource, estate: Estate) -> Iterator[str]:
    """The CNI enforces network policies, and no add-on moves to another version by itself."""
    if item.type == _ADDON:
        if not isinstance(item.get("addonVersion"), str):
            yield "the add-on's version is not pinned"
        return
    used = [addon for addon in estate.users(item, "clusterName", _ADDON) if is_cni(addon)]
    if not used:
        yield "the add-on vpc-cni is not managed, so network policies are not enforced"
    for addon in used:
        given = opened(addon.get("configurationValues"))
        try:
            values = json.loads(given) if isinstance(given, str) else {}
        except json.JSONDecodeError:
            values = {}
        if str(values.get("enableNetworkPolicy", "")).lower() != "true":
            yield "vpc-cni does not enforce network policies: enableNetworkPolicy is not true"


def is_cni(addon: Resource) -> bool:
    """Whether an add-on is the network of the pods."""
    return is_set(addon, "addonName", "vpc-cni")
