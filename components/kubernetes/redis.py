"""Redis as a single server inside the cluster."""

from dataclasses import dataclass

from pulumi import ResourceOptions

from components.kubernetes.pod import SECRETS_PATH, Probes, command_probe, port_probe
from components.kubernetes.stateful import DataServiceArgs, StatefulServer, StatefulServerArgs

_PORT = 6379


@dataclass(frozen=True)
class RedisArgs:
    """A Redis server."""

    service: DataServiceArgs
    """Size and place."""
    secret: str
    """Secret that holds the password."""
    secret_key: str
    """Its key."""
    max_memory_bytes: int
    """Data after which writes are refused."""


class Redis(StatefulServer):
    """Redis; `url` is what clients connect to."""

    url: str
    """URL of database 0, without the password."""

    def __init__(self, name: str, args: RedisArgs, opts: ResourceOptions | None = None) -> None:
        password = f"{SECRETS_PATH}/{args.secret_key}"
        # The password goes by environment, never on a command line that others can list.
        ping = ("sh", "-c", f'REDISCLI_AUTH="$(cat {password})" redis-cli ping | grep -q PONG')
        super().__init__(
            "tradestack:kubernetes:Redis",
            name,
            StatefulServerArgs(
                service=args.service,
                port=_PORT,
                data_path="/data",
                probes=Probes(
                    startup=command_probe(*ping, period=1, failures=120),
                    live=port_probe("server", period=10, failures=3),
                    ready=command_probe(*ping, period=5, failures=2),
                ),
                args=("--maxmemory", str(int(args.max_memory_bytes)), "--maxmemory-policy", "noeviction"),
                environment={"REDIS_PASSWORD_FILE": password},
                secret=args.secret,
                secret_keys=(args.secret_key,),
            ),
            opts,
        )
        self.url = f"redis://{self.host}:{self.port}/0"
