"""Groups of machines that join an EKS cluster."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pulumi_aws as aws
from pulumi import Input, Resource, ResourceOptions

from components.aws.computed import computed
from components.aws.scope import Scope

_NAME_LIMIT = 63
_ROOT_DEVICE = "/dev/xvda"
# The image of Amazon Linux 2023 is 20 GiB; gp3 volumes end at 16 TiB.
_DISK_GIB = (20, 16384)
_UNAVAILABLE_PERCENT = 33
_ALL_DOWN = 0
_UNCHANGED = -1
# nodeadm, the first program of Amazon Linux 2023's EKS images, merges this with what EKS hands it.
_WHOLE_CPUS = """MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  kubelet:
    config:
      cpuManagerPolicy: static

--//--
"""


@dataclass(frozen=True)
class Schedule:
    """Hours in which a group has machines; outside them it has none."""

    start: str
    """When the group comes up, as a cron expression of five fields, such as `0 7 * * 1-5`."""
    stop: str
    """When its machines go, likewise."""
    zone: str
    """IANA time zone of both, such as `America/New_York`."""


@dataclass(frozen=True)
class Taint:
    """Keeps pods away that do not tolerate it."""

    key: str
    """Key, such as `dedicated`."""
    value: str
    """Value, such as `matching`."""
    effect: Literal["NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE"] = "NO_SCHEDULE"
    """What happens to pods without a toleration."""


@dataclass(frozen=True)
class NodeGroup:
    """Machines of one kind."""

    name: str
    """Name within the cluster, such as `general`."""
    instance_types: Sequence[str]
    """Types to choose from, all of one size; several where the capacity is `SPOT`."""
    capacity: Literal["ON_DEMAND", "SPOT"]
    """Whether AWS may take the machines back on two minutes' notice, for a lower price."""
    minimum: int
    """Fewest machines."""
    maximum: int
    """Most machines."""
    desired: int
    """Machines at first; an autoscaler owns the number afterwards."""
    disk_gib: int
    """Root volume of each, 20 to 16384 GiB."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes."""
    taints: Sequence[Taint] = ()
    """Taints of the nodes; a cluster needs one group without."""
    schedule: Schedule | None = None
    """Hours in which there are machines; always where none is given."""
    whole_cpus: bool = False
    """Gives pods that ask for whole CPUs (requests equal to limits) cores that no other pod runs on."""
    ami_type: Literal["AL2023_x86_64_STANDARD", "AL2023_ARM_64_STANDARD"] = "AL2023_x86_64_STANDARD"
    """Image of the machines; must fit their processors."""


@dataclass(frozen=True)
class Machines:
    """What the groups of one cluster have in common."""

    scope: Scope
    """Names and account."""
    cluster: Input[str]
    """Name of the cluster, known once it exists."""
    version: str
    """Kubernetes version; groups follow the control plane."""
    role_arn: Input[str]
    """Role of the machines."""
    subnet_ids: Sequence[Input[str]]
    """Private subnets they live in."""
    key_arn: Input[str]
    """Key of their volumes."""
    tags: Mapping[str, str]
    """Tags of the machines, volumes and interfaces, which do not get the provider's default tags."""
    after: Sequence[Resource]
    """What must be there before the first machine starts."""


def check_node_groups(groups: Sequence[NodeGroup]) -> None:
    """Refuse groups that could not work.

    Raises:
        ValueError: a name is repeated, sizes contradict each other, no type is given, the disk is too small
            or too large, or every group is tainted.
    """
    names: set[str] = set()
    for group in groups:
        if group.name in names:
            raise ValueError(f"node group '{group.name}': given twice")
        names.add(group.name)
        if not group.instance_types:
            raise ValueError(f"node group '{group.name}': at least one instance type is needed")
        if not 0 <= group.minimum <= group.desired <= group.maximum or group.maximum < 1:
            sizes = f"{group.minimum}, {group.desired}, {group.maximum}"
            raise ValueError(
                f"node group '{group.name}': minimum, desired and maximum must rise, not {sizes}, "
                "and the maximum be at least 1"
            )
        low, high = _DISK_GIB
        if not low <= group.disk_gib <= high:
            raise ValueError(f"node group '{group.name}': disk {group.disk_gib} GiB, from {low} to {high}")
    if not any(not group.taints for group in groups):
        raise ValueError("node groups: one without taints is needed, for DNS and the other add-ons")


def make_node_group(name: str, group: NodeGroup, machines: Machines, parent: Resource) -> aws.eks.NodeGroup:
    """Create a group and, where it has a schedule, the actions that start and stop it."""
    physical = machines.scope.name(group.name, _digest(group, machines), limit=_NAME_LIMIT)
    template = _make_template(name, group, machines, parent)
    # An autoscaler owns the number of machines; the scheduled actions own the minimum, where there are any.
    owned = ["scalingConfig.desiredSize", *(["scalingConfig.minSize"] if group.schedule else [])]
    made = aws.eks.NodeGroup(
        name,
        cluster_name=machines.cluster,
        node_group_name=physical,
        node_role_arn=machines.role_arn,
        subnet_ids=machines.subnet_ids,
        version=machines.version,
        ami_type=group.ami_type,
        capacity_type=group.capacity,
        instance_types=list(group.instance_types),
        launch_template=aws.eks.NodeGroupLaunchTemplateArgs(
            id=template.id, version=template.latest_version.apply(str)
        ),
        scaling_config=aws.eks.NodeGroupScalingConfigArgs(
            min_size=group.minimum, max_size=group.maximum, desired_size=group.desired
        ),
        update_config=aws.eks.NodeGroupUpdateConfigArgs(max_unavailable_percentage=_UNAVAILABLE_PERCENT),
        node_repair_config=aws.eks.NodeGroupNodeRepairConfigArgs(enabled=True),
        labels=dict(group.labels),
        taints=[
            aws.eks.NodeGroupTaintArgs(key=taint.key, value=taint.value, effect=taint.effect)
            for taint in group.taints
        ],
        tags=machines.scope.tags(physical),
        opts=ResourceOptions(parent=parent, depends_on=list(machines.after), ignore_changes=owned),
    )
    if group.schedule:
        _make_schedule(name, group, group.schedule, made, parent)
    return made


def _digest(group: NodeGroup, machines: Machines) -> str:
    """Part of a group's name that changes with what AWS cannot change in place.

    The new group then comes up beside the old one before that is drained, instead of after it.
    """
    fixed = (group.capacity, *group.instance_types, group.ami_type, str(len(machines.subnet_ids)))
    return hashlib.sha256("\n".join(fixed).encode()).hexdigest()[:6]


def _make_template(
    name: str, group: NodeGroup, machines: Machines, parent: Resource
) -> aws.ec2.LaunchTemplate:
    physical = machines.scope.name(name, limit=125)
    tags = machines.scope.tags(physical, **machines.tags)
    user_data = base64.b64encode(_WHOLE_CPUS.encode()).decode() if group.whole_cpus else None
    return aws.ec2.LaunchTemplate(
        name,
        name=physical,
        update_default_version=True,
        # A pod is one hop further away than its node: a limit of 1 keeps the node's role from it.
        metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
            http_endpoint="enabled",
            http_tokens="required",
            http_put_response_hop_limit=1,
            instance_metadata_tags="disabled",
        ),
        block_device_mappings=[
            aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                device_name=_ROOT_DEVICE,
                ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                    volume_type="gp3",
                    volume_size=group.disk_gib,
                    encrypted="true",
                    kms_key_id=machines.key_arn,
                    delete_on_termination="true",
                ),
            )
        ],
        tag_specifications=[
            aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=tags)
            for kind in ("instance", "volume", "network-interface")
        ],
        user_data=user_data,
        tags=machines.scope.tags(physical),
        opts=ResourceOptions(parent=parent, delete_before_replace=True),
    )


def _make_schedule(
    name: str, group: NodeGroup, schedule: Schedule, made: aws.eks.NodeGroup, parent: Resource
) -> None:
    autoscaling = computed(made.resources, lambda found: str((found[0].autoscaling_groups or [])[0].name))
    for action, recurrence, minimum, desired in (
        ("start", schedule.start, group.minimum, group.desired),
        ("stop", schedule.stop, _ALL_DOWN, _ALL_DOWN),
    ):
        aws.autoscaling.Schedule(
            f"{name}-{action}",
            scheduled_action_name=action,
            autoscaling_group_name=autoscaling,
            recurrence=recurrence,
            time_zone=schedule.zone,
            min_size=minimum,
            max_size=_UNCHANGED,
            desired_capacity=desired,
            opts=ResourceOptions(parent=parent),
        )
