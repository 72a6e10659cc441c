"""The trading application inside the cluster: add-ons, permissions, secrets, workloads, entry."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pulumi
from pulumi import Resource, ResourceOptions
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.storage.v1 import StorageClass

from app.roles import Kind, Lag, Need, Resources, Role, cluster_roles
from components.aws.addon_access import (
    cert_manager_statements,
    cluster_autoscaler_statements,
    external_dns_statements,
    external_secrets_statements,
    keda_statements,
    load_balancer_statements,
)
from components.aws.cluster import Cluster
from components.aws.edge import Edge
from components.aws.identity import PodRole, PodRoleArgs, Statement
from components.aws.secrets import Secrets
from components.aws.streaming import Streaming
from components.kubernetes import charts
from components.kubernetes.addons import Addons, AddonsArgs, selected
from components.kubernetes.edge import CERTIFICATE, HTTPS_PORT, NAMESPACE, SERVICE
from components.kubernetes.edge_binding import (
    Certificate,
    CertificateArgs,
    Issuer,
    IssuerArgs,
    TargetGroupBinding,
    TargetGroupBindingArgs,
)
from components.kubernetes.external_secrets import (
    ExternalSecrets,
    ExternalSecretsArgs,
    RemoteKey,
    RemoteSecret,
)
from components.kubernetes.meta import labels
from components.kubernetes.monitoring import ALERTMANAGER, Monitoring, Topic
from components.kubernetes.pod import Pool
from infra.settings import CloudSettings
from infra.settings.workloads import workloads
from stacks import feeds, monitoring
from stacks.base import APP_KEYS, APP_SECRET, Platform, make_namespaces, make_workloads
from stacks.cloud.compute import DEDICATED
from stacks.cloud.data import DataServices
from stacks.cloud.foundation import Foundation
from stacks.edge import ENTRIES, make_edge
from stacks.edge import Surroundings as EdgeSurroundings
from stacks.flows import MONITORING, SYSTEM
from stacks.scaling import Brokers

_FEED_KEYS = "feed-keys"
"""Secret with the keys of feeds."""
_ISSUER = "lets-encrypt"
_LOAD_BALANCERS = 1
"""Proxies in front of the cluster."""
_IDLE_SECONDS = 4100
"""Above the 4000 s for which the load balancer keeps a connection: it must be the one that closes."""
_HSTS_SECONDS = 31_536_000
"""A year, as the load balancer says."""
_ENVOY = Resources(cpu_request="250m", cpu_limit="2", memory_request="512Mi", memory_limit="2Gi")


_VOLUMES = "gp3"
"""StorageClass of volumes under the cluster's key."""

_IMAGES = monitoring.Images(
    prometheus="quay.io/prometheus/prometheus:v3.5.0",
    prometheus_version="3.5.0",
    alertmanager="quay.io/prometheus/alertmanager:v0.28.1",
    alertmanager_version="0.28.1",
)
"""The versions that prometheus-operator 0.85 is tested with."""


@dataclass(frozen=True)
class Surroundings:
    """What the workloads stand in."""

    base: Foundation
    cluster: Cluster
    data: DataServices
    edge: Edge
    keys: Secrets
    image: str


def make_cluster_workloads(
    settings: CloudSettings, around: Surroundings, aws: ResourceOptions, kubernetes: ResourceOptions
) -> Monitoring | None:
    """Everything inside the cluster, and what watches it; `aws` and `kubernetes` name the providers."""
    namespaces = make_namespaces(settings, kubernetes)
    addons = _make_addons(settings, around, aws, kubernetes)
    secrets = ExternalSecrets(
        "secrets",
        ExternalSecretsArgs(settings.region, [_app_secret(around), *_feed_secrets(settings)]),
        _after(kubernetes, *namespaces, addons.releases[charts.EXTERNAL_SECRETS]),
    )
    issuer = Issuer(
        _ISSUER,
        IssuerArgs(settings.owner, settings.domain, settings.hosted_zone, settings.region),
        _after(kubernetes, addons.releases[charts.CERT_MANAGER]),
    )
    roles = [
        PodRole(role.name, _pod_role(around, role.name, _streaming(role, around.data.streaming)), aws)
        for role in cluster_roles(cloud=True).values()
        if Need.BUS in role.needs
    ]
    ready = [*namespaces, secrets, *roles]
    services = make_workloads(settings, _platform(settings, around, addons, ready), kubernetes)
    certificate = Certificate(
        CERTIFICATE,
        CertificateArgs(SYSTEM, (settings.domain,), _ISSUER),
        _after(kubernetes, *namespaces, issuer),
    )
    door = make_edge(
        settings.edge,
        _edge(settings, around),
        kubernetes,
        addons.releases[charts.ENVOY_GATEWAY],
        certificate,
        *(services[name] for name in ENTRIES),
    )
    TargetGroupBinding(
        SERVICE,
        TargetGroupBindingArgs(
            namespace=NAMESPACE,
            service=SERVICE,
            port=HTTPS_PORT,
            target_group_arn=around.edge.target_group_arn,
            vpc_id=around.base.network.vpc_id,
        ),
        _after(kubernetes, addons.releases[charts.LOAD_BALANCER], door),
    )
    return _make_monitoring(settings, around, aws, _after(kubernetes, *namespaces, *addons.releases.values()))


def _edge(settings: CloudSettings, around: Surroundings) -> EdgeSurroundings:
    return EdgeSurroundings(
        # The load balancer's own security group lets only `allowedClients` in.
        clients=("0.0.0.0/0",),
        internal_networks=(around.base.network.cidr,),
        origins=(f"https://{settings.domain}",),
        resources=_ENVOY,
        hsts_seconds=_HSTS_SECONDS,
        hops=_LOAD_BALANCERS,
        idle_seconds=_IDLE_SECONDS,
    )


def _make_monitoring(
    settings: CloudSettings, around: Surroundings, aws: ResourceOptions, kubernetes: ResourceOptions
) -> Monitoring | None:
    given = settings.monitoring
    if not given.enabled:
        return None
    needed: list[Resource] = [
        StorageClass(
            _VOLUMES,
            metadata=ObjectMetaArgs(name=_VOLUMES, labels=labels(_VOLUMES)),
            provisioner="ebs.csi.aws.com",
            parameters={"type": "gp3", "encrypted": "true", "kmsKeyId": around.base.keys.cluster.arn},
            reclaim_policy="Delete",
            # A volume is of one zone: the pod's place comes first.
            volume_binding_mode="WaitForFirstConsumer",
            allow_volume_expansion=True,
            opts=kubernetes,
        )
    ]
    topic = Topic(around.base.alerts.topic_arn, settings.region)
    if given.receiver is not None and given.receiver.kind == "sns":
        needed.append(PodRole(ALERTMANAGER.name, _alerting(around, topic), aws))
    return monitoring.make_monitoring(
        settings,
        monitoring.Surroundings(_IMAGES, _VOLUMES, pulumi.get_stack(), topic),
        _after(kubernetes, *needed),
    )


def _alerting(around: Surroundings, topic: Topic) -> PodRoleArgs:
    cluster = around.cluster
    key = around.base.keys.messaging.arn
    statements = [
        Statement(("sns:Publish",), [topic.arn]),
        Statement(("kms:Decrypt", "kms:GenerateDataKey"), [key]),
    ]
    return PodRoleArgs(
        around.base.scope, cluster.cluster_name, cluster.ready, MONITORING, ALERTMANAGER.name, statements
    )


def _make_addons(
    settings: CloudSettings, around: Surroundings, aws: ResourceOptions, kubernetes: ResourceOptions
) -> Addons:
    scope, keys = around.base.scope, around.base.keys
    data = around.data
    needs = {
        charts.CLUSTER_AUTOSCALER: cluster_autoscaler_statements(scope, around.cluster.cluster_name),
        charts.LOAD_BALANCER: load_balancer_statements([around.edge.target_group_arn]),
        charts.EXTERNAL_SECRETS: external_secrets_statements(
            scope,
            [
                data.database.secret_arn,
                data.cache.secret_arn,
                *around.keys.arns.values(),
                *(key.arn for secret in _feed_secrets(settings) for key in secret.keys),
            ],
            [keys.secrets.arn],
        ),
        charts.CERT_MANAGER: cert_manager_statements(scope, settings.hosted_zone),
        charts.EXTERNAL_DNS: external_dns_statements(scope, settings.hosted_zone),
    }
    if lags := _lags(settings):
        streaming = data.streaming
        backlogs = [(streaming.topic_arn(lag.topic), streaming.group_arn(lag.group)) for lag in lags]
        needs[charts.KEDA] = keda_statements(streaming.cluster_arn, backlogs)
    args = AddonsArgs(
        cluster=around.cluster.cluster_name,
        region=settings.region,
        vpc_id=around.base.network.vpc_id,
        version=settings.cluster.version,
        zone_id=settings.hosted_zone,
        domain=settings.domain,
    )
    identities: dict[str, Resource] = {
        chart.release: PodRole(
            chart.release,
            PodRoleArgs(
                scope,
                around.cluster.cluster_name,
                around.cluster.ready,
                chart.namespace,
                chart.service_account,
                needs[chart.release],
            ),
            aws,
        )
        for chart in selected(args)
        if chart.service_account is not None and chart.release in needs
    }
    return Addons("addons", replace(args, identities=identities), kubernetes)


def _platform(
    settings: CloudSettings, around: Surroundings, addons: Addons, ready: Sequence[Resource]
) -> Platform:
    data = around.data
    return Platform(
        image=around.image,
        revision=settings.image.digest.removeprefix("sha256:")[:12],
        urls=data.urls,
        addresses=data.addresses,
        ready=ready,
        brokers=Brokers(data.streaming.bootstrap_brokers, settings.region),
        scalers=[addons.releases[charts.KEDA]],
        peers={**data.peers, Need.BUS: [*data.peers[Need.BUS], monitoring.POD_IDENTITY_AGENT]},
        environment={
            "APP_BUS_SECURITY": "msk-iam",
            "APP_AWS_REGION": settings.region,
        },
        hops=_LOAD_BALANCERS,
        more_secrets=feeds.secrets(None if settings.feed.alpha_vantage_secret is None else _FEED_KEYS),
        pools={
            name: Pool(DEDICATED, name)
            for name, group in settings.cluster.node_groups.items()
            if group.dedicated
        },
    )


def _lags(settings: CloudSettings) -> list[Lag]:
    """Backlogs that the stack's autoscalers look at."""
    scalings = [item.scaling for item in workloads(settings).values() if item.scaling is not None]
    return [scaling.lag for scaling in scalings if scaling.lag is not None]


def _app_secret(around: Surroundings) -> RemoteSecret:
    data = around.data
    return RemoteSecret(
        SYSTEM,
        APP_SECRET,
        [
            RemoteKey("app_database_password", data.database.secret_arn, "password"),
            RemoteKey("app_cache_password", data.cache.secret_arn),
            *(RemoteKey(key, around.keys.arns[name]) for name, key in APP_KEYS.items()),
        ],
    )


def _feed_secrets(settings: CloudSettings) -> list[RemoteSecret]:
    """The key of a feed, which somebody put into Secrets Manager. It is encrypted with the key that Secrets
    Manager uses by itself, which lets everyone decrypt who may read the secret."""
    arn = settings.feed.alpha_vantage_secret
    return (
        [] if arn is None else [RemoteSecret(SYSTEM, _FEED_KEYS, [RemoteKey(feeds.ALPHA_VANTAGE_KEY, arn)])]
    )


def _pod_role(around: Surroundings, role: str, statements: Sequence[Statement]) -> PodRoleArgs:
    cluster = around.cluster
    return PodRoleArgs(around.base.scope, cluster.cluster_name, cluster.ready, SYSTEM, role, statements)


def _streaming(role: Role, streaming: Streaming) -> list[Statement]:
    """What a role may do at the brokers; only tasks make topics."""
    topics = ["DescribeTopic", "ReadData", "WriteData"]
    if role.kind is Kind.TASK:
        topics = ["AlterTopic", "AlterTopicDynamicConfiguration", "CreateTopic", "DescribeTopic"]
        topics += ["DescribeTopicDynamicConfiguration"]
    return [
        Statement(
            ("kafka-cluster:Connect", "kafka-cluster:DescribeCluster", "kafka-cluster:WriteDataIdempotently"),
            [streaming.cluster_arn],
        ),
        Statement([f"kafka-cluster:{action}" for action in topics], [streaming.topic_arn("*")]),
        Statement(
            ("kafka-cluster:AlterGroup", "kafka-cluster:DescribeGroup"),
            [streaming.group_arn(f"{role.name}*"), streaming.group_arn("broadcast-*")],
        ),
    ]


def _after(opts: ResourceOptions, *resources: Resource) -> ResourceOptions:
    return ResourceOptions.merge(opts, ResourceOptions(depends_on=list(resources)))
