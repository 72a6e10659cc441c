"""What the file of a stack on one Kubernetes cluster may say."""

from typing import Annotated, Literal

from infra.settings.model import KubernetesName, ResourceSettings, Section, StackSettings, Text
from infra.settings.quantities import Memory, NodePort, whole


class PostgresSettings(Section):
    """The PostgreSQL server inside the cluster."""

    storage: Memory = Memory.parse("50Gi")
    max_connections: Annotated[int, whole(20, 2000)] = 400
    """Connections that the server takes; each in use costs some 5 MiB."""
    resources: ResourceSettings = ResourceSettings()


class RedisSettings(Section):
    """The Redis server inside the cluster."""

    storage: Memory = Memory.parse("10Gi")
    max_memory: Memory = Memory.parse("128Mi")
    """Data that Redis holds before it refuses writes."""
    resources: ResourceSettings = ResourceSettings()


class KafkaSettings(Section):
    """The Kafka node inside the cluster."""

    storage: Memory = Memory.parse("10Gi")
    heap: Memory = Memory.parse("384Mi")
    """Java heap, both initial and maximal."""
    resources: ResourceSettings = ResourceSettings()


class LocalSettings(StackSettings):
    """A stack inside one Kubernetes cluster, data services included."""

    platform: Literal["local"]
    kubeconfig: Text | None = None
    """Path of the cluster's kubeconfig; without it the variable KUBECONFIG, then the embedded cluster's."""
    address: KubernetesName | None = None
    """Host name or address on which node ports answer; without it, the API server's."""
    node_port: NodePort = 30080
    """Port of the public entry on every node, for plain HTTP."""
    secure_node_port: NodePort = 30443
    """Port of the public entry on every node, for HTTPS."""
    storage_class: KubernetesName = "local-path"
    """StorageClass of the data services' volumes."""
    postgres: PostgresSettings = PostgresSettings()
    redis: RedisSettings = RedisSettings()
    kafka: KafkaSettings = KafkaSettings()
