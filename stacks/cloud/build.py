"""The order in which a stack on AWS comes together."""

from dataclasses import replace

import pulumi
import pulumi_aws as aws
import pulumi_random
from pulumi import ResourceOptions

from components.aws.edge import Edge, EdgeArgs
from components.aws.scope import Scope
from components.kubernetes.edge import HTTPS_TARGET
from components.kubernetes.edge_policies import HEALTH_PATH
from infra.settings import NAMESPACES, CloudSettings
from stacks import monitoring
from stacks.cloud.compute import kubernetes_provider, make_cluster
from stacks.cloud.containers import Neighbours, make_containers, make_task_network
from stacks.cloud.data import make_app_keys, make_data_services
from stacks.cloud.foundation import APP_REPOSITORY, Foundation, make_foundation
from stacks.cloud.operations import Parts, make_operations
from stacks.cloud.services import make_services
from stacks.cloud.workloads import Surroundings, make_cluster_workloads
from stacks.outputs import Outputs


def build(settings: CloudSettings) -> Outputs:
    """Register every resource of a stack on AWS and return its outputs."""
    stack = pulumi.get_stack()
    scope = Scope(prefix=f"tradestack-{stack}", account=settings.account, region=settings.region)
    tags = _tags(settings, stack)
    provider = aws.Provider(
        "aws",
        region=settings.region,
        # A stack that meets the wrong credentials stops before it changes anything.
        allowed_account_ids=[settings.account],
        default_tags=aws.ProviderDefaultTagsArgs(tags=tags),
    )
    random = pulumi_random.Provider("random")
    opts = ResourceOptions(providers=[provider, random])
    base = make_foundation(settings, scope, opts)
    image = f"{base.registry.repository_urls[APP_REPOSITORY]}@{settings.image.digest}"
    if settings.foundation_only:
        return _outputs(settings, base, image)
    services = make_services(settings, base, image, opts)
    cluster = make_cluster(settings, base, tags, opts)
    edge = _make_edge(settings, base, cluster.security_group_id, opts)
    tasks = make_task_network(base, opts)
    clients = {"cluster": cluster.security_group_id, "tasks": tasks.security_group_id}
    data = make_data_services(settings, base, clients, services.rotation, opts)
    containers = make_containers(settings, Neighbours(base, services, data, tasks, image), opts)
    inside = ResourceOptions(providers=[kubernetes_provider(cluster), random])
    keys = make_app_keys(settings, base, services.rotation, opts)
    around = Surroundings(base, cluster, data, edge, keys, image)
    watched = make_cluster_workloads(settings, around, opts, inside)
    parts = Parts(base, cluster, data, services, containers, edge)
    observed = make_operations(settings, parts, opts)
    found = _outputs(settings, base, image)
    return replace(
        found,
        namespaces=NAMESPACES,
        endpoints={need.value: url for need, url in data.urls.items()},
        kubeconfig=cluster.kubeconfig,
        more={
            **found.more,
            **monitoring.outputs(watched),
            "dashboard": observed.dashboard_url,
            "cluster": cluster.cluster_name,
            "queues": services.messaging.queue_urls,
            "topics": services.messaging.topic_arns,
            "stream": services.analytics.stream_arn,
        },
    )


def _outputs(settings: CloudSettings, base: Foundation, image: str) -> Outputs:
    """What the first phase of a stack tells."""
    return Outputs(
        web=f"https://{settings.domain}",
        namespaces=(),
        endpoints={},
        kubeconfig=None,
        image=image,
        more={
            "repository": base.registry.repository_urls[APP_REPOSITORY],
            "buckets": base.storage.buckets,
        },
    )


def _make_edge(
    settings: CloudSettings, base: Foundation, targets: pulumi.Input[str], opts: ResourceOptions
) -> Edge:
    return Edge(
        "edge",
        EdgeArgs(
            scope=base.scope,
            vpc_id=base.network.vpc_id,
            subnet_ids=base.network.public_subnet_ids,
            log_bucket=base.storage.ready["logs"],
            domain=settings.domain,
            hosted_zone_id=settings.hosted_zone,
            target_security_group_id=targets,
            target_port=HTTPS_TARGET,
            target_protocol="HTTPS",
            health_check_path=HEALTH_PATH,
            rate_limit=settings.edge.requests_per_address,
            log_key_arn=base.keys.logs.arn,
            log_days=settings.log_days,
            alerts_topic_arn=base.alerts.topic_arn,
            client_cidrs=settings.allowed_clients,
            protect=settings.protect,
        ),
        opts,
    )


def _tags(settings: CloudSettings, stack: str) -> dict[str, str]:
    """Tags of everything; cost allocation goes by them."""
    return {
        "tradestack:stack": stack,
        "tradestack:environment": settings.environment,
        "tradestack:owner": settings.owner,
        "tradestack:managed-by": "pulumi",
    }
