"""Everything inside one Kubernetes cluster: the embedded one, kind, or any that a kubeconfig leads to."""

import pulumi
import pulumi_random
from pulumi import ResourceOptions
from pulumi_kubernetes.provider import Provider

from app.roles import Need, Resources
from components.kubernetes.edge import NAMESPACE
from components.kubernetes.kafka import Kafka, KafkaArgs
from components.kubernetes.network_policy import NetworkPolicy
from components.kubernetes.postgres import Postgres, PostgresArgs
from components.kubernetes.redis import Redis, RedisArgs
from components.kubernetes.secrets import Credentials, CredentialsArgs, Password, SecretKey
from components.kubernetes.stateful import DataServiceArgs
from infra import kubeconfig
from infra.images import catalog
from infra.settings import LocalSettings
from infra.settings.quantities import Memory
from infra.settings.workloads import data_resources
from stacks import feeds, monitoring
from stacks.base import APP_KEYS, APP_SECRET, Platform, make_namespaces, make_workloads
from stacks.edge import ENTRIES, Surroundings, make_edge
from stacks.flows import BACKENDS, DATA, SYSTEM, backend_policies, pod_backends
from stacks.outputs import Outputs
from stacks.scaling import Brokers

_KEPT_KEYS = "app-keys"
"""Secret beside the data, which stays with it when the stack is taken down: some of it is encrypted."""
_KEY_LENGTH = 48
_PASSWORD_KEY = "password"  # noqa: S105 - a key in a Secret

_CLUSTER_NETWORKS = ("10.96.0.0/15", "10.244.0.0/16")
"""Services and pods of embedded clusters, pods of kind."""
_ENVOY = Resources(cpu_request="100m", cpu_limit="2", memory_request="128Mi", memory_limit="1Gi")
"""10,000 WebSockets take some 600 MiB."""


_IMAGES = monitoring.Images(
    prometheus=catalog.reference("prometheus"),
    prometheus_version="3.14.0",
    alertmanager=catalog.reference("alertmanager"),
    alertmanager_version="0.25.0",
)
"""Those that are in our images: Prometheus as its module says, Alertmanager as Debian 12 has it."""


def build(settings: LocalSettings) -> Outputs:
    """Register every resource of a local stack and return its outputs."""
    stack = pulumi.get_stack()
    path = kubeconfig.locate(settings.kubeconfig)
    cluster = Provider(
        "kubernetes",
        kubeconfig=str(path),
        # Without it, another path or certificate would count as another cluster and replace everything.
        cluster_identifier=f"tradestack-{stack}",
        enable_server_side_apply=True,
    )
    opts = ResourceOptions(providers=[cluster, pulumi_random.Provider("random")])
    namespaces = make_namespaces(settings, opts)
    in_namespaces = ResourceOptions.merge(opts, ResourceOptions(depends_on=list(namespaces)))
    credentials = Credentials("credentials", _credentials(), in_namespaces)
    for name, policy in backend_policies().items():
        NetworkPolicy(name, policy, in_namespaces)
    with_credentials = ResourceOptions.merge(in_namespaces, ResourceOptions(depends_on=[credentials]))
    backends = _make_backends(settings, with_credentials)
    image = catalog.reference("app")
    platform = Platform(
        image=image,
        revision=image.rsplit(":", 1)[1],
        urls={need: backend.url for need, backend in backends.items()},
        addresses={need: f"{backend.host}:{backend.port}" for need, backend in backends.items()},
        ready=[*namespaces, credentials, *backends.values()],
        peers=pod_backends(),
        more_secrets=feeds.secrets(settings.feed.alpha_vantage_secret),
        brokers=Brokers(f"{backends[Need.BUS].host}:{backends[Need.BUS].port}"),
    )
    services = make_workloads(settings, platform, opts)
    make_edge(settings.edge, _edge(settings), opts, *(services[name] for name in ENTRIES))
    watched = monitoring.make_monitoring(
        settings, monitoring.Surroundings(_IMAGES, settings.storage_class, stack), in_namespaces
    )
    address = settings.address or kubeconfig.address(path) or "localhost"
    return Outputs(
        web=f"http://{address}:{settings.node_port}",
        namespaces=tuple(namespace.namespace for namespace in namespaces),
        endpoints={need.value: backend.url for need, backend in backends.items()},
        kubeconfig=str(path),
        image=image,
        more={"secure": f"https://{address}:{settings.secure_node_port}", **monitoring.outputs(watched)},
    )


def _edge(settings: LocalSettings) -> Surroundings:
    return Surroundings(
        clients=settings.allowed_clients,
        internal_networks=_CLUSTER_NETWORKS,
        origins=(),
        resources=_ENVOY,
        # The name may be `localhost`, at which other things of the user answer by plain HTTP.
        hsts_seconds=60,
        drain_seconds=20,
        image=catalog.reference("envoy"),
        certificate_namespace=NAMESPACE,
        node_ports={"http": settings.node_port, "https": settings.secure_node_port},
    )


def _credentials() -> CredentialsArgs:
    def shared(need: Need, app_key: str) -> Password:
        own = SecretKey(DATA, BACKENDS[need].name, _PASSWORD_KEY)
        return Password((own, SecretKey(SYSTEM, APP_SECRET, app_key)))

    return CredentialsArgs(
        passwords={
            "database-password": shared(Need.DATABASE, "app_database_password"),
            "cache-password": shared(Need.CACHE, "app_cache_password"),
            **{
                name: Password(
                    (SecretKey(DATA, _KEPT_KEYS, key), SecretKey(SYSTEM, APP_SECRET, key)), _KEY_LENGTH
                )
                for name, key in APP_KEYS.items()
            },
        }
    )


def _make_backends(settings: LocalSettings, opts: ResourceOptions) -> dict[Need, Postgres | Redis | Kafka]:
    resources = data_resources(settings)

    def service(name: str, storage: Memory) -> DataServiceArgs:
        return DataServiceArgs(
            namespace=DATA,
            image=catalog.reference(name),
            resources=resources[name],
            storage=str(storage),
            storage_class=settings.storage_class,
        )

    names = {need: backend.name for need, backend in BACKENDS.items()}
    return {
        Need.DATABASE: Postgres(
            names[Need.DATABASE],
            PostgresArgs(
                service=service("postgres", settings.postgres.storage),
                secret=names[Need.DATABASE],
                secret_key=_PASSWORD_KEY,
                max_connections=settings.postgres.max_connections,
            ),
            opts,
        ),
        Need.CACHE: Redis(
            names[Need.CACHE],
            RedisArgs(
                service=service("redis", settings.redis.storage),
                secret=names[Need.CACHE],
                secret_key=_PASSWORD_KEY,
                max_memory_bytes=settings.redis.max_memory,
            ),
            opts,
        ),
        Need.BUS: Kafka(
            names[Need.BUS],
            KafkaArgs(service=service("kafka", settings.kafka.storage), heap_bytes=settings.kafka.heap),
            opts,
        ),
    }
