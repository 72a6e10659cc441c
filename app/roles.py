"""The role table: what each process of the app image is and how it is run.

Data only, standard library only: the app reads it to know what to start, the infrastructure reads it to know
what to deploy. Ports, probes, resources and scaling hints live here and nowhere else.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum


class Kind(StrEnum):
    """How a role is run."""

    SERVICE = "service"
    """Any number of equal replicas behind a Service."""
    TASK = "task"
    """Runs to completion once for each revision of the app: migrations, topic creation."""
    JOB = "job"
    """Runs to completion on a schedule."""


class Host(StrEnum):
    """Where a stack in the cloud runs a role; a local stack has only its cluster."""

    CLUSTER = "cluster"
    """Kubernetes."""
    CONTAINERS = "containers"
    """ECS on Fargate."""


class Need(StrEnum):
    """A backing service that a role cannot work without."""

    DATABASE = "database"
    CACHE = "cache"
    BUS = "bus"


@dataclass(frozen=True)
class Resources:
    """Requests and limits of one replica, in Kubernetes quantities."""

    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str


@dataclass(frozen=True)
class Rate:
    """How fast an autoscaler adds or removes replicas; the larger of `percent` and `pods` counts."""

    window_seconds: int
    """How long a change must be needed: the most cautious wish in this time counts; 0 for at once."""
    period_seconds: int
    """Time that `percent` and `pods` are for, 1 to 1800."""
    percent: int | None = None
    """Of the replicas at the period's beginning."""
    pods: int | None = None


ADDED = Rate(window_seconds=60, period_seconds=60, percent=100, pods=4)
"""How replicas are added (seeds 000 section 5.1 and 004)."""
REMOVED = Rate(window_seconds=300, period_seconds=120, percent=25)
"""How replicas are removed (seeds 000 section 5.1 and 004)."""
REMOVED_ONE_BY_ONE = Rate(window_seconds=300, period_seconds=60, pods=1)
"""How replicas are removed that hold connections: each leaves time for its clients to go to the others."""


@dataclass(frozen=True)
class Lag:
    """A consumer group whose backlog calls for replicas."""

    topic: str
    group: str
    messages: int
    """Messages behind for each replica."""


@dataclass(frozen=True)
class Hours:
    """A time of the day with a higher minimum."""

    time_zone: str
    """IANA name."""
    start: str
    """Five fields of cron."""
    end: str
    """Five fields of cron, later on the same day."""
    replicas: int
    """The minimum in that time."""


@dataclass(frozen=True)
class Scaling:
    """Bounds, targets and pace of a horizontal autoscaler; a target that is None is not looked at."""

    minimum: int
    maximum: int
    cpu_percent: int = 70
    """Average utilisation of the CPU request."""
    memory_percent: int | None = None
    """Average utilisation of the memory request."""
    connections: int | None = None
    """WebSocket connections for each replica."""
    requests_per_second: int | None = None
    """Requests answered in a second by each replica."""
    backlog: int | None = None
    """Messages behind for each replica of a role that reads whole topics on its own, without a group."""
    lag: Lag | None = None
    added: Rate = ADDED
    removed: Rate = REMOVED
    fallback_replicas: int | None = None
    """Least number of replicas while metrics are lost; None leaves it at the minimum."""
    hours: tuple[Hours, ...] = ()

    @property
    def needs_events(self) -> bool:
        """Whether there are targets that Kubernetes does not know by itself."""
        known = (self.connections, self.requests_per_second, self.backlog, self.lag)
        return bool(self.hours) or any(target is not None for target in known)


@dataclass(frozen=True)
class Role:
    """One role of the app image."""

    name: str
    """Kubernetes name, Service name and argument of `python -m app run`."""
    summary: str
    kind: Kind
    entry: str
    """`module:function` that the process runs."""
    resources: Resources
    port: int | None = None
    """HTTP port of the role's endpoints, probes and metrics; None for tasks and jobs."""
    metrics_port: int | None = None
    """Port of /metrics where `port` is open to the public; None where `port` answers it."""
    needs: frozenset[Need] = frozenset()
    calls: frozenset[str] = frozenset()
    """Roles that this one sends requests to; the allowed network flows follow from it."""
    routes: tuple[str, ...] = ()
    """Path prefixes of the public address that lead to this role, longest match first."""
    replicas: int = 1
    """Replicas of a service without an autoscaler."""
    scaling: Scaling | None = None
    drain_seconds: int = 10
    """Time after SIGTERM in which open requests and connections are finished."""
    secrets: frozenset[str] = field(default_factory=frozenset)
    """Keys of the app's secret that are mounted as files."""
    optional_secrets: frozenset[str] = field(default_factory=frozenset)
    """Keys that are mounted beside them in stacks that have them, each from a secret of its own."""
    host: Host = Host.CLUSTER
    leads: bool = False
    """One replica leads and the others stand by: callers reach the leader itself, at the address that each
    replica is told as APP_ADVERTISED_ADDRESS (a base URL)."""
    pool: str | None = None
    """Nodes that the role runs on where a stack in the cloud has them, by the name of their group."""
    schedule: str | None = None
    """When a job runs: five fields of cron, in UTC."""
    queue: str | None = None
    """Queue in the cloud that the role takes its work from; where there is none, the role does not run."""

    @property
    def ends(self) -> bool:
        """Whether the role runs to completion."""
        return self.kind in (Kind.TASK, Kind.JOB)


_SMALL = Resources(cpu_request="50m", cpu_limit="500m", memory_request="128Mi", memory_limit="256Mi")
_BUSY = Resources(cpu_request="100m", cpu_limit="1", memory_request="128Mi", memory_limit="384Mi")
_ENGINE = Resources(cpu_request="250m", cpu_limit="1", memory_request="192Mi", memory_limit="1Gi")

ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role(
            name="gateway",
            summary="Public entry: routes to the other roles by path",
            kind=Kind.SERVICE,
            entry="app.gateway.endpoints:serve",
            port=8081,
            metrics_port=9081,
            resources=_SMALL,
            calls=frozenset(
                {"market-data", "price-service", "frontend", "auth", "wallet", "order", "portfolio", "risk"}
            ),
            scaling=Scaling(minimum=3, maximum=10, memory_percent=80),
        ),
        Role(
            name="market-data",
            summary="Instruments, tickers and OHLCV candles",
            kind=Kind.SERVICE,
            entry="app.market_data.endpoints:serve",
            port=8085,
            resources=_SMALL,
            needs=frozenset({Need.DATABASE, Need.BUS, Need.CACHE}),
            routes=("/api/market",),
            secrets=frozenset({"app_database_password", "app_cache_password"}),
        ),
        Role(
            name="price-collector",
            summary="The one source of price updates: one replica collects, the other stands by",
            kind=Kind.SERVICE,
            entry="app.price_collector.service:serve",
            port=8084,
            resources=_SMALL,
            replicas=2,
            needs=frozenset({Need.DATABASE, Need.BUS, Need.CACHE}),
            secrets=frozenset({"app_database_password", "app_cache_password"}),
            optional_secrets=frozenset({"app_alpha_vantage_key"}),
        ),
        Role(
            name="price-service",
            summary="WebSocket fan-out of prices, books, trades and what is a user's own",
            kind=Kind.SERVICE,
            entry="app.price_service.service:serve",
            port=8083,
            resources=_SMALL,
            needs=frozenset({Need.BUS, Need.CACHE}),
            calls=frozenset({"auth", "market-data", "matching-engine", "portfolio"}),
            routes=("/ws",),
            scaling=Scaling(
                minimum=2,
                maximum=20,
                connections=400,
                backlog=1000,
                # Who is connected stays: a window would only keep them waiting (docs/decisions/0010).
                added=replace(ADDED, window_seconds=0),
                removed=REMOVED_ONE_BY_ONE,
                fallback_replicas=5,
            ),
            drain_seconds=20,
            secrets=frozenset({"app_cache_password", "app_internal_token"}),
        ),
        Role(
            name="auth",
            summary="Accounts, sessions, second factor and API keys",
            kind=Kind.SERVICE,
            entry="app.auth.endpoints:serve",
            port=8086,
            resources=_BUSY,
            needs=frozenset({Need.DATABASE, Need.BUS, Need.CACHE}),
            routes=("/api/auth",),
            scaling=Scaling(minimum=2, maximum=6),
            secrets=frozenset(
                {
                    "app_database_password",
                    "app_cache_password",
                    "app_auth_signing_key",
                    "app_auth_encryption_key",
                }
            ),
        ),
        Role(
            name="wallet",
            summary="Ledger, deposits, withdrawals, loans and the settlement of trades",
            kind=Kind.SERVICE,
            entry="app.wallet.endpoints:serve",
            port=8087,
            resources=_BUSY,
            needs=frozenset({Need.DATABASE, Need.BUS}),
            calls=frozenset({"auth", "matching-engine", "risk"}),
            routes=("/api/wallet",),
            secrets=frozenset({"app_database_password", "app_internal_token"}),
        ),
        Role(
            name="order",
            summary="Orders over REST and WebSocket, their history and fills",
            kind=Kind.SERVICE,
            entry="app.orders.endpoints:serve",
            port=8088,
            resources=_BUSY,
            needs=frozenset({Need.DATABASE, Need.BUS}),
            calls=frozenset({"auth", "matching-engine"}),
            routes=("/api/orders", "/api/book"),
            scaling=Scaling(
                minimum=2,
                maximum=10,
                requests_per_second=50,
                lag=Lag("matching.output", "order", 1000),
                removed=REMOVED_ONE_BY_ONE,
            ),
            drain_seconds=20,
            secrets=frozenset({"app_database_password", "app_internal_token"}),
        ),
        Role(
            name="matching-engine",
            summary="The one writer of every order book: risk check, hold, journal, match",
            kind=Kind.SERVICE,
            entry="app.matching.endpoints:serve",
            port=8089,
            resources=_ENGINE,
            replicas=2,
            leads=True,
            pool="performance",
            needs=frozenset({Need.DATABASE, Need.BUS, Need.CACHE}),
            secrets=frozenset({"app_database_password", "app_cache_password", "app_internal_token"}),
        ),
        Role(
            name="portfolio",
            summary="Positions, average cost, profit and loss",
            kind=Kind.SERVICE,
            entry="app.portfolio.endpoints:serve",
            port=8090,
            resources=_SMALL,
            needs=frozenset({Need.DATABASE, Need.BUS, Need.CACHE}),
            calls=frozenset({"auth", "matching-engine"}),
            routes=("/api/portfolio",),
            secrets=frozenset({"app_database_password", "app_cache_password", "app_internal_token"}),
        ),
        Role(
            name="risk",
            summary="Limits, kill switches, margin calls and forced closes",
            kind=Kind.SERVICE,
            entry="app.risk.endpoints:serve",
            port=8091,
            resources=_SMALL,
            needs=frozenset({Need.DATABASE, Need.BUS, Need.CACHE}),
            calls=frozenset({"auth", "matching-engine"}),
            routes=("/api/risk",),
            secrets=frozenset({"app_database_password", "app_cache_password", "app_internal_token"}),
        ),
        Role(
            name="frontend",
            summary="The web pages",
            kind=Kind.SERVICE,
            entry="app.frontend.endpoints:serve",
            port=3000,
            resources=_SMALL,
            routes=("/",),
            scaling=Scaling(minimum=2, maximum=10, memory_percent=80),
        ),
        Role(
            name="migrate",
            summary="Brings the database schema to the newest revision",
            kind=Kind.TASK,
            entry="app.kit.migrate:run",
            resources=_SMALL,
            needs=frozenset({Need.DATABASE}),
            secrets=frozenset({"app_database_password"}),
        ),
        Role(
            name="topics",
            summary="Creates the broker's topics from the event registry",
            kind=Kind.TASK,
            entry="app.kit.topics:run",
            resources=_SMALL,
            needs=frozenset({Need.BUS}),
        ),
        Role(
            name="notification",
            summary="Messages to users by mail",
            kind=Kind.SERVICE,
            entry="app.notification.endpoints:serve",
            port=8092,
            resources=_SMALL,
            needs=frozenset({Need.DATABASE}),
            scaling=Scaling(minimum=2, maximum=6),
            drain_seconds=20,
            secrets=frozenset({"app_database_password"}),
            host=Host.CONTAINERS,
            queue="notification",
        ),
        Role(
            name="housekeeping",
            summary="Deletes records that no one needs any longer",
            kind=Kind.JOB,
            entry="app.housekeeping.service:run",
            resources=_SMALL,
            needs=frozenset({Need.DATABASE}),
            secrets=frozenset({"app_database_password"}),
            host=Host.CONTAINERS,
            schedule="17 3 * * *",
        ),
    )
}
"""Every role by name."""


def cluster_roles(*, cloud: bool) -> dict[str, Role]:
    """Roles that a stack runs in Kubernetes: in the cloud those hosted there, else all that need no queue."""
    return {
        name: role
        for name, role in ROLES.items()
        if (role.host is Host.CLUSTER if cloud else role.queue is None)
    }
