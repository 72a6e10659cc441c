"""What stacks share: the trading workloads of the role table in a Kubernetes cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pulumi import Input, Resource, ResourceOptions

from app.roles import Kind, Need, Role
from components.kubernetes.autoscaler import Autoscaler, AutoscalerArgs
from components.kubernetes.meta import Environment
from components.kubernetes.namespace import ContainerLimits, Namespace, NamespaceArgs, Quota
from components.kubernetes.network_policy import Allow, NetworkPolicy
from components.kubernetes.pod import Pool
from components.kubernetes.scaled_object import ScaledObject, ScaledObjectArgs
from components.kubernetes.service import Service, ServiceArgs
from components.kubernetes.tasks import ScheduledTask, ScheduledTaskArgs, Task, TaskArgs
from infra.settings import NAMESPACES, StackSettings
from infra.settings.workloads import Workload, workloads
from stacks import feeds
from stacks.edge import EDGE_PODS, ENTRIES, edge_environment
from stacks.flows import SYSTEM, role_policies
from stacks.scaling import Brokers, scaler

APP_SECRET = "app-secrets"  # noqa: S105 - the name of a Secret
"""Secret with the app's passwords; its keys are the app's own names for them."""

APP_KEYS = {
    "internal-token": "app_internal_token",
    "auth-signing-key": "app_auth_signing_key",
    "auth-encryption-key": "app_auth_encryption_key",
}
"""Random texts that only the app knows: the name under which each is generated, and its key in APP_SECRET."""

_URL_VARIABLES = {Need.DATABASE: "APP_DATABASE_URL", Need.CACHE: "APP_CACHE_URL", Need.BUS: "APP_BUS_URL"}


@dataclass(frozen=True)
class Platform:
    """What the trading workloads stand on, in one stack."""

    image: Input[str]
    """Image of the app."""
    revision: str
    """Content hash of the image."""
    urls: Mapping[Need, Input[str]]
    """Where each need is met, without passwords."""
    addresses: Mapping[Need, Input[str]]
    """`host:port` of each, to be waited for."""
    ready: Sequence[Resource]
    """What has to be there before the first workload starts."""
    peers: Mapping[Need, Sequence[Allow]]
    """Where the pods of a role may connect to for each need."""
    brokers: Brokers
    """The brokers whose backlog autoscalers look at."""
    scalers: Sequence[Resource] = ()
    """What has to be there before the first autoscaler by events."""
    hops: int = 0
    """Proxies in front of the cluster."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of every workload, beside those that follow from its needs."""
    pools: Mapping[str, Pool] = field(default_factory=dict)
    """Nodes that are set apart, by the name of their group."""
    more_secrets: Mapping[str, str] = field(default_factory=dict)
    """Key of a role's optional secret → the Secret that holds it, where the stack has it."""


def make_namespaces(settings: StackSettings, opts: ResourceOptions) -> list[Namespace]:
    """Every namespace of the stack with its guard rails."""
    limits = settings.limit_range
    bounds = ContainerLimits(
        cpu_request=str(limits.cpu_request),
        cpu_limit=str(limits.cpu_limit),
        memory_request=str(limits.memory_request),
        memory_limit=str(limits.memory_limit),
        max_cpu=str(limits.max_cpu),
        max_memory=str(limits.max_memory),
    )
    made = []
    for name in NAMESPACES:
        given = settings.quotas[name]
        quota = Quota(
            cpu_request=str(given.cpu_request),
            cpu_limit=str(given.cpu_limit),
            memory_request=str(given.memory_request),
            memory_limit=str(given.memory_limit),
            storage=str(given.storage),
            pods=given.pods,
        )
        made.append(Namespace(name, NamespaceArgs(quota=quota, limits=bounds), opts))
    return made


def make_workloads(settings: StackSettings, platform: Platform, opts: ResourceOptions) -> dict[str, Service]:
    """Tasks first, then every other role with its network policy, services with their autoscaler."""
    sized = workloads(settings)
    policies = {
        name: NetworkPolicy(name, args, _after(opts, platform.ready))
        for name, args in role_policies(
            ENTRIES, EDGE_PODS, platform.peers, {feeds.COLLECTOR: feeds.egress(settings.feed)}
        ).items()
        if name in sized
    }
    tasks = [
        Task(name, _task(settings, platform, item), _after(opts, [*platform.ready, policies[name]]))
        for name, item in sized.items()
        if item.role.kind is Kind.TASK
    ]
    services: dict[str, Service] = {}
    for name, item in sized.items():
        if item.role.kind is Kind.TASK:
            continue
        after = _after(opts, [*platform.ready, policies[name], *tasks])
        if item.role.schedule is not None:
            ScheduledTask(name, ScheduledTaskArgs(_task(settings, platform, item), item.role.schedule), after)
            continue
        services[name] = Service(name, _service(settings, platform, item), after)
        if item.scaling is not None:
            args = scaler(item.role, item.scaling, platform.brokers)
            _make_scaler(name, args, platform, _after(opts, [services[name]]))
    return services


def _after(opts: ResourceOptions, resources: Sequence[Resource]) -> ResourceOptions:
    return ResourceOptions.merge(opts, ResourceOptions(depends_on=list(resources)))


def _task(settings: StackSettings, platform: Platform, item: Workload) -> TaskArgs:
    return TaskArgs(
        role=item.role,
        namespace=SYSTEM,
        image=platform.image,
        revision=platform.revision,
        resources=item.resources,
        secret=APP_SECRET,
        environment=_environment(settings, platform, item),
        waits=_waits(platform, item.role),
    )


def _service(settings: StackSettings, platform: Platform, item: Workload) -> ServiceArgs:
    return ServiceArgs(
        role=item.role,
        namespace=SYSTEM,
        image=platform.image,
        resources=item.resources,
        replicas=None if item.scaling else item.replicas,
        secret=APP_SECRET,
        environment=_environment(settings, platform, item),
        more_secrets={
            platform.more_secrets[key]: [key]
            for key in sorted(item.role.optional_secrets & platform.more_secrets.keys())
        },
        waits=_waits(platform, item.role),
        pool=platform.pools.get(item.role.pool) if item.role.pool else None,
    )


def _make_scaler(
    name: str, args: AutoscalerArgs | ScaledObjectArgs, platform: Platform, opts: ResourceOptions
) -> None:
    if isinstance(args, AutoscalerArgs):
        Autoscaler(name, args, opts)
    else:
        ScaledObject(name, args, _after(opts, platform.scalers))


def _environment(settings: StackSettings, platform: Platform, item: Workload) -> Environment:
    environment: dict[str, Input[str]] = {
        "APP_LOG_FORMAT": "json",
        "APP_LOG_LEVEL": settings.log_level.upper(),
        "APP_REVISION": platform.revision,
    }
    environment |= {_URL_VARIABLES[need]: platform.urls[need] for need in item.role.needs}
    environment |= edge_environment(settings.edge, item.role, hops=platform.hops)
    if item.role.name == feeds.COLLECTOR:
        environment |= feeds.environment(settings.feed)
    return environment | dict(platform.environment) | dict(item.environment)


def _waits(platform: Platform, role: Role) -> list[Input[str]]:
    return [platform.addresses[need] for need in sorted(role.needs)]
