"""PostgreSQL as a single server inside the cluster."""

from dataclasses import dataclass

from pulumi import ResourceOptions

from components.kubernetes.pod import SECRETS_PATH, Probes, command_probe, port_probe
from components.kubernetes.stateful import DataServiceArgs, StatefulServer, StatefulServerArgs

_PORT = 5432


@dataclass(frozen=True)
class PostgresArgs:
    """A PostgreSQL server with one database."""

    service: DataServiceArgs
    """Size and place."""
    secret: str
    """Secret that holds the owner's password."""
    secret_key: str
    """Its key."""
    database: str = "trading"
    """Database that is created at the first start."""
    user: str = "trading"
    """Role that owns the database."""
    max_connections: int = 100
    """Connections that the server takes, three of them for superusers."""


class Postgres(StatefulServer):
    """PostgreSQL; `url` is what clients connect to."""

    url: str
    """SQLAlchemy URL for asyncpg, without the password."""

    def __init__(self, name: str, args: PostgresArgs, opts: ResourceOptions | None = None) -> None:
        # By address rather than socket: the server opens its socket while it still recovers.
        ready = ("pg_isready", "-q", "-h", "127.0.0.1", "-U", args.user, "-d", args.database)
        super().__init__(
            "tradestack:kubernetes:Postgres",
            name,
            StatefulServerArgs(
                service=args.service,
                port=_PORT,
                data_path="/var/lib/postgresql/data",
                probes=Probes(
                    startup=command_probe(*ready, period=2, failures=150),
                    # Recovery after a crash may take long; a restart would begin it again.
                    live=port_probe("server", period=15, failures=4),
                    ready=command_probe(*ready, period=5, failures=2),
                ),
                environment={
                    "PGDATA": "/var/lib/postgresql/data/pgdata",
                    "POSTGRES_DB": args.database,
                    "POSTGRES_PASSWORD_FILE": f"{SECRETS_PATH}/{args.secret_key}",
                    "POSTGRES_USER": args.user,
                },
                secret=args.secret,
                secret_keys=(args.secret_key,),
                args=("-c", f"max_connections={args.max_connections}"),
                drain_seconds=60,
            ),
            opts,
        )
        self.url = f"postgresql+asyncpg://{args.user}@{self.host}:{self.port}/{args.database}"
