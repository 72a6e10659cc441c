"""The Kubernetes cluster and the way into it."""

from collections.abc import Mapping

from pulumi import ResourceOptions
from pulumi_kubernetes.provider import Provider

from components.aws.cluster import Cluster, ClusterArgs
from components.aws.node_groups import NodeGroup, Schedule, Taint
from infra.settings import CloudSettings
from infra.settings.cloud import NodeGroupSettings, ScheduleSettings
from stacks.cloud.foundation import Foundation

DEDICATED = "dedicated"
"""Label and taint of the nodes of a dedicated group; its value is the group's name."""


def make_cluster(
    settings: CloudSettings, base: Foundation, tags: Mapping[str, str], opts: ResourceOptions
) -> Cluster:
    """EKS with the node groups of the stack file; `tags` reach machines and volumes too."""
    given = settings.cluster
    admins = dict(given.admins)
    if settings.delivery is not None and settings.delivery.deployer_role not in admins.values():
        # Who changes the stack changes what is inside the cluster, too.
        admins["deployer"] = settings.delivery.deployer_role
    return Cluster(
        "cluster",
        ClusterArgs(
            scope=base.scope,
            subnet_ids=base.network.private_subnet_ids,
            control_plane_subnet_ids=base.network.private_subnet_ids,
            key_arn=base.keys.cluster.arn,
            log_key_arn=base.keys.logs.arn,
            log_days=settings.log_days,
            version=given.version,
            public_access_cidrs=given.public_access,
            admins=admins,
            addons=given.addons,
            node_groups=[
                _node_group(name, group, settings.schedule) for name, group in given.node_groups.items()
            ],
            node_tags=tags,
            service_cidr=given.service_cidr,
            protect=settings.protect,
        ),
        opts,
    )


def kubernetes_provider(cluster: Cluster) -> Provider:
    """The provider of everything inside the cluster."""
    return Provider(
        "kubernetes",
        kubeconfig=cluster.kubeconfig,
        # Without it, a new endpoint or certificate would count as another cluster and replace everything.
        cluster_identifier=cluster.cluster_name,
        enable_server_side_apply=True,
        opts=ResourceOptions(depends_on=[cluster]),
    )


def _node_group(name: str, given: NodeGroupSettings, hours: ScheduleSettings | None) -> NodeGroup:
    return NodeGroup(
        name=name,
        instance_types=given.instance_types,
        capacity="SPOT" if given.spot else "ON_DEMAND",
        minimum=given.minimum,
        maximum=given.maximum,
        desired=given.minimum,
        disk_gib=given.disk,
        labels={DEDICATED: name} if given.dedicated else {},
        taints=(Taint(DEDICATED, name),) if given.dedicated else (),
        schedule=_schedule(hours) if hours else None,
        whole_cpus=given.dedicated,
    )


def _schedule(hours: ScheduleSettings) -> Schedule:
    def cron(clock: str) -> str:
        hour, minute = clock.split(":")
        return f"{int(minute)} {int(hour)} * * {hours.days}"

    return Schedule(cron(hours.start), cron(hours.stop), hours.time_zone)
