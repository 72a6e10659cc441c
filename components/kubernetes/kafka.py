"""Kafka as a single KRaft node inside the cluster."""

from dataclasses import dataclass

from pulumi import ResourceOptions

from components.kubernetes.meta import host
from components.kubernetes.pod import Probes, command_probe, port_probe
from components.kubernetes.stateful import DataServiceArgs, StatefulServer, StatefulServerArgs

_PORT = 9092


@dataclass(frozen=True)
class KafkaArgs:
    """A Kafka node that is broker and controller."""

    service: DataServiceArgs
    """Size and place."""
    heap_bytes: int
    """Java heap, both initial and maximal."""


class Kafka(StatefulServer):
    """Kafka; `url` is what clients connect to."""

    url: str
    """Bus URL of the broker."""

    def __init__(self, name: str, args: KafkaArgs, opts: ResourceOptions | None = None) -> None:
        megabytes = int(args.heap_bytes) // 2**20
        super().__init__(
            "tradestack:kubernetes:Kafka",
            name,
            StatefulServerArgs(
                service=args.service,
                port=_PORT,
                data_path="/var/lib/kafka",
                probes=Probes(
                    startup=port_probe("server", period=1, failures=180),
                    live=port_probe("server", period=15, failures=4),
                    ready=command_probe("ready", period=5, failures=2),
                ),
                environment={
                    "KAFKA_ADVERTISED_HOST": host(name, args.service.namespace),
                    "KAFKA_HEAP_OPTS": f"-Xms{megabytes}m -Xmx{megabytes}m",
                },
                drain_seconds=45,
            ),
            opts,
        )
        self.url = f"kafka://{self.host}:{self.port}"
