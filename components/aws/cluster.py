"""The EKS cluster of a stack: control plane, who may use it, its add-ons and its machines."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions

from components.aws.computed import computed
from components.aws.identity import Role, RoleArgs, Statement, pod_trust, trust
from components.aws.node_groups import Machines, NodeGroup, check_node_groups, make_node_group
from components.aws.scope import Scope
from components.skips import Skip

_LOGS = ("api", "audit", "authenticator", "controllerManager", "scheduler")
_VERSION = re.compile(r"1\.\d{2}")
_ADDON_VERSION = re.compile(r"v\d+\.\d+\.\d+-eksbuild\.\d+")
# What a node needs before it is Ready; the others need nodes to run on.
_BEFORE_NODES = ("eks-pod-identity-agent", "kube-proxy", "vpc-cni")
_NEEDED = (*_BEFORE_NODES, "coredns")
_TELEMETRY = "amazon-cloudwatch-observability"
# The agent of this add-on writes them below /aws/containerinsights/<cluster>/.
_TELEMETRY_LOGS = ("application", "dataplane", "host", "performance")
_ANYWHERE = ("0.0.0.0/0", "::/0")
_ADMIN_POLICY = "AmazonEKSClusterAdminPolicy"
# Addresses come in blocks of 16, so that a node takes as many pods as it has memory for and none waits.
_CNI_SETTINGS = {
    "enableNetworkPolicy": "true",
    "env": {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"},
}
_VOLUME_KEY_USE = (
    "CreateGrant",
    "Decrypt",
    "DescribeKey",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
)


@dataclass(frozen=True)
class ClusterArgs:
    """A control plane, its add-ons and its node groups."""

    scope: Scope
    """Names and account."""
    subnet_ids: Sequence[Input[str]]
    """Private subnets of the nodes and their pods, in three zones."""
    control_plane_subnet_ids: Sequence[Input[str]]
    """Private subnets in which the control plane meets the nodes, in at least two zones."""
    key_arn: Input[str]
    """Key of Kubernetes secrets and of the machines' volumes; the former cannot be changed afterwards."""
    log_key_arn: Input[str]
    """Key of the logs of control plane, machines and pods; its policy must let CloudWatch Logs use it."""
    log_days: int
    """Days these logs are kept; one of CloudWatch's retention periods."""
    version: str
    """Kubernetes version, such as `1.35`."""
    public_access_cidrs: Sequence[str]
    """Addresses from which the API is reached over the internet; empty: from the VPC only."""
    admins: Mapping[str, str]
    """Who administers the cluster: IAM principal ARN by a short name. Who creates it is none by itself."""
    addons: Mapping[str, str]
    """Version of each EKS add-on, such as `v1.13.2-eksbuild.31` for `coredns`."""
    node_groups: Sequence[NodeGroup]
    """Groups of machines."""
    node_tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of machines and volumes; the provider's default tags do not reach them."""
    api_clients: Mapping[str, Input[str]] = field(default_factory=dict)
    """Security groups in the VPC that reach the API without being nodes, by a short name such as `build`."""
    service_cidr: str = "172.20.0.0/16"
    """Addresses of Services; must not overlap the VPC's and cannot be changed afterwards."""
    protect: bool = False
    """Refuses the deletion of the cluster, by Pulumi and by AWS."""


class Cluster(ComponentResource):
    """An EKS cluster that only those named may use, with node groups that hold no permissions for pods.

    A node may join, pull images and hand out pod identities, nothing else; the network and volume drivers get
    roles of their own through EKS Pod Identity. Once per account there must be the service-linked role
    `AWSServiceRoleForAutoScaling`: machines start under it, and their volumes' key is granted to it.
    """

    cluster_name: str
    """Name of the cluster."""
    ready: Output[str]
    """The name again, known once nodes and add-ons are there and its administrators have access."""
    endpoint: Output[str]
    """Address of the Kubernetes API."""
    kubeconfig: Output[str]
    """Configuration for kubectl as JSON: calls `aws eks get-token` and names no profile."""
    security_group_id: Output[str]
    """Security group that EKS gives to nodes and pods."""
    node_role_arn: Output[str]
    """Role of the nodes."""
    app_log_group: Output[str]
    """Log group of the pods."""

    def __init__(self, name: str, args: ClusterArgs, opts: ResourceOptions | None = None) -> None:
        _check(args)
        super().__init__("tradestack:aws:Cluster", name, None, opts)
        self._name, self._args, self._scope = name, args, args.scope
        self._child = ResourceOptions(parent=self)
        self.cluster_name = args.scope.name(name)
        self._cluster = self._make_cluster()
        self.endpoint = self._cluster.endpoint
        self.security_group_id = self._cluster.vpc_config.cluster_security_group_id
        self._let_in_api_clients()
        admins = [self._admit(short, principal) for short, principal in sorted(args.admins.items())]
        first = [self._addon(item, []) for item in _BEFORE_NODES]
        groups = self._make_nodes(first)
        logs = {kind: self._make_telemetry_log(kind) for kind in _TELEMETRY_LOGS}
        self.app_log_group = logs["application"].name
        # What writes logs makes them itself where they are missing: its deletion must come before theirs.
        before = {_TELEMETRY: [*groups, *logs.values()]}
        later = [
            self._addon(item, before.get(item, groups))
            for item in sorted(args.addons)
            if item not in _BEFORE_NODES
        ]
        addons = [*first, *later]
        # Their copies of the name are known in a preview, where their ids might not be.
        waiting = [item.cluster_name for part in (admins, addons, groups) for item in part]
        self.ready = Output.all(self._cluster.name, *waiting).apply(lambda names: str(names[0]))
        self.kubeconfig = self._make_kubeconfig()
        self.register_outputs({"cluster_name": self.cluster_name, "endpoint": self.endpoint})

    def _make_cluster(self) -> aws.eks.Cluster:
        args, scope = self._args, self._scope
        # EKS would make the log group itself, without key and with logs that never go.
        log_name = f"/aws/eks/{self.cluster_name}/cluster"
        log = aws.cloudwatch.LogGroup(
            f"{self._name}-control-plane",
            name=log_name,
            kms_key_id=args.log_key_arn,
            retention_in_days=args.log_days,
            tags=scope.tags(log_name),
            opts=self._child,
        )
        role = self._role("control-plane", trust("eks.amazonaws.com", scope), ["AmazonEKSClusterPolicy"])
        return aws.eks.Cluster(
            self._name,
            name=self.cluster_name,
            version=args.version,
            role_arn=role.arn,
            access_config=aws.eks.ClusterAccessConfigArgs(
                authentication_mode="API", bootstrap_cluster_creator_admin_permissions=False
            ),
            bootstrap_self_managed_addons=False,
            deletion_protection=args.protect,
            enabled_cluster_log_types=list(_LOGS),
            encryption_config=aws.eks.ClusterEncryptionConfigArgs(
                provider=aws.eks.ClusterEncryptionConfigProviderArgs(key_arn=args.key_arn),
                resources=["secrets"],
            ),
            kubernetes_network_config=aws.eks.ClusterKubernetesNetworkConfigArgs(
                ip_family="ipv4", service_ipv4_cidr=args.service_cidr
            ),
            # Extended support costs six times as much; the version is raised in time instead.
            upgrade_policy=aws.eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
            vpc_config=aws.eks.ClusterVpcConfigArgs(
                subnet_ids=args.control_plane_subnet_ids,
                endpoint_private_access=True,
                endpoint_public_access=bool(args.public_access_cidrs),
                public_access_cidrs=list(args.public_access_cidrs) or None,
            ),
            tags=scope.tags(self.cluster_name),
            opts=ResourceOptions(
                parent=self,
                depends_on=[log],
                protect=args.protect,
                # AWS reads both at creation only; a change would replace the cluster.
                ignore_changes=[
                    "accessConfig.bootstrapClusterCreatorAdminPermissions",
                    "bootstrapSelfManagedAddons",
                ],
            ),
        )

    def _make_telemetry_log(self, kind: str) -> aws.cloudwatch.LogGroup:
        log_name = f"/aws/containerinsights/{self.cluster_name}/{kind}"
        return aws.cloudwatch.LogGroup(
            f"{self._name}-{kind}",
            name=log_name,
            kms_key_id=self._args.log_key_arn,
            retention_in_days=self._args.log_days,
            tags=self._scope.tags(log_name),
            opts=self._child,
        )

    def _role(self, label: str, trusted: str, managed: Sequence[str], *statements: Statement) -> Role:
        args = RoleArgs(self._scope, trusted, statements, managed)
        return Role(f"{self._name}-{label}", args, self._child)

    def _let_in_api_clients(self) -> None:
        for short, group in self._args.api_clients.items():
            aws.vpc.SecurityGroupIngressRule(
                f"{self._name}-api-{short}",
                security_group_id=self.security_group_id,
                referenced_security_group_id=group,
                description=f"Kubernetes API from {short}",
                ip_protocol="tcp",
                from_port=443,
                to_port=443,
                tags=self._scope.tags(self._scope.name(self._name, "api", short)),
                opts=self._child,
            )

    def _admit(self, short: str, principal: str) -> aws.eks.AccessPolicyAssociation:
        entry = aws.eks.AccessEntry(
            f"{self._name}-{short}",
            cluster_name=self._cluster.name,
            principal_arn=principal,
            type="STANDARD",
            tags=self._scope.tags(self._scope.name(self._name, short)),
            opts=self._child,
        )
        return aws.eks.AccessPolicyAssociation(
            f"{self._name}-{short}",
            cluster_name=self._cluster.name,
            principal_arn=entry.principal_arn,
            policy_arn=f"arn:{self._scope.partition}:eks::aws:cluster-access-policy/{_ADMIN_POLICY}",
            access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
            opts=self._child,
        )

    def _addon(self, addon: str, after: Sequence[Resource]) -> aws.eks.Addon:
        return aws.eks.Addon(
            f"{self._name}-{addon}",
            cluster_name=self._cluster.name,
            addon_name=addon,
            addon_version=self._args.addons[addon],
            configuration_values=json.dumps(_CNI_SETTINGS) if addon == "vpc-cni" else None,
            pod_identity_associations=self._addon_identity(addon),
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            tags=self._scope.tags(self._scope.name(self._name, addon)),
            opts=ResourceOptions(parent=self, depends_on=list(after)),
        )

    def _addon_identity(self, addon: str) -> list[aws.eks.AddonPodIdentityAssociationArgs] | None:
        """Role of an add-on that calls AWS, bound to its ServiceAccount and to nothing else."""
        trusted = pod_trust(self._scope, self.cluster_name)
        if addon == "vpc-cni":
            account, role = "aws-node", self._role("cni", trusted, ["AmazonEKS_CNI_Policy"])
        elif addon == "aws-ebs-csi-driver":
            role = self._role("ebs", trusted, ["service-role/AmazonEBSCSIDriverPolicy"])
            account = "ebs-csi-controller-sa"
            self._grant_key("ebs", role.arn)
        elif addon == _TELEMETRY:
            policies = ["AWSXRayDaemonWriteAccess", "CloudWatchAgentServerPolicy"]
            account, role = "cloudwatch-agent", self._role("telemetry", trusted, policies)
        else:
            return None
        return [aws.eks.AddonPodIdentityAssociationArgs(service_account=account, role_arn=role.arn)]

    def _make_nodes(self, first: Sequence[Resource]) -> list[aws.eks.NodeGroup]:
        args, scope = self._args, self._scope
        role = self._role(
            "node",
            trust("ec2.amazonaws.com", scope),
            ["AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly"],
            # A node asks for its own DNS name, which becomes its name in the cluster, and for how many
            # addresses its type has. EC2 knows no resources for these.
            Statement(("ec2:DescribeInstances", "ec2:DescribeInstanceTypes"), ("*",)),
        )
        self.node_role_arn = role.arn
        # Machines start under this role of AWS, which has no permission for a customer's key by itself.
        starter = scope.arn(
            "iam",
            "role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
            region="",
        )
        grant = self._grant_key("volumes", starter)
        machines = Machines(
            scope=scope,
            cluster=self._cluster.name,
            version=args.version,
            role_arn=role.arn,
            subnet_ids=args.subnet_ids,
            key_arn=args.key_arn,
            tags=args.node_tags,
            after=[*first, grant],
        )
        return [
            make_node_group(f"{self._name}-{item.name}", item, machines, self) for item in args.node_groups
        ]

    def _grant_key(self, label: str, grantee: Input[str]) -> aws.kms.Grant:
        """Let `grantee` make and attach encrypted volumes."""
        return aws.kms.Grant(
            f"{self._name}-{label}",
            name=self._scope.name(self._name, label, limit=256),
            key_id=self._args.key_arn,
            grantee_principal=grantee,
            operations=list(_VOLUME_KEY_USE),
            opts=self._child,
        )

    def _make_kubeconfig(self) -> Output[str]:
        name, region = self.cluster_name, self._scope.region
        command = {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": "aws",
            "args": ["eks", "get-token", "--cluster-name", name, "--region", region, "--output", "json"],
            "interactiveMode": "Never",
        }
        cluster: dict[str, Any] = {
            "server": self.endpoint,
            "certificate-authority-data": computed(
                self._cluster.certificate_authority, lambda found: str(found.data)
            ),
        }
        return Output.json_dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": name, "cluster": cluster}],
                "users": [{"name": name, "user": {"exec": command}}],
                # `ready` is the same name, and makes whoever uses this wait for nodes and access.
                "contexts": [{"name": name, "context": {"cluster": self.ready, "user": name}}],
                "current-context": name,
            }
        )


def _check(args: ClusterArgs) -> None:
    if not _VERSION.fullmatch(args.version):
        raise ValueError(f"Kubernetes version '{args.version}': major and minor, such as 1.35")
    for cidr in args.public_access_cidrs:
        if cidr in _ANYWHERE:
            raise ValueError(f"public access {cidr}: name the addresses that need the API, or none")
    if not args.admins:
        raise ValueError("admins: at least one is needed, or nobody can enter the cluster")
    missing = [item for item in _NEEDED if item not in args.addons]
    if missing:
        raise ValueError(f"add-ons: {', '.join(missing)} missing, without which no node works")
    for addon, version in args.addons.items():
        if not _ADDON_VERSION.fullmatch(version):
            raise ValueError(f"add-on {addon}: version '{version}', such as v1.2.3-eksbuild.4 is needed")
    proxy = args.addons["kube-proxy"]
    if not proxy.startswith(f"v{args.version}."):
        raise ValueError(f"add-on kube-proxy: version '{proxy}' does not belong to Kubernetes {args.version}")
    check_node_groups(args.node_groups)


SKIPS: tuple[Skip, ...] = (
    Skip(
        "CKV_AWS_338",
        "aws:cloudwatch/logGroup:LogGroup",
        "How long the control plane's logs are kept is a setting: thirty days are asked for.",
        "*-control-plane",
    ),
    Skip(
        "CKV_AWS_39",
        "aws:eks/cluster:Cluster",
        "The API is public only where a stack lists addresses, and the arguments refuse 0.0.0.0/0.",
    ),
)
