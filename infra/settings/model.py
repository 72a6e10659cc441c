"""What every stack file may say: frozen models, every key typed, nothing else accepted."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.roles import ROLES
from infra.settings.quantities import (
    Cidr,
    Clock,
    Cpu,
    Duration,
    Memory,
    TimeZone,
    Weekdays,
    refuse,
    whole,
)

NAMESPACES = ("trading-system", "trading-data", "trading-monitoring")
"""Namespaces of a stack: the app, its data services, what watches them."""

_ORIGIN = re.compile(r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9]\d{0,4})?")
_VARIABLE = re.compile(r"APP_[A-Z0-9_]+")
_SECRET_WORDS = ("PASSWORD", "SECRET", "TOKEN", "KEY")
_PLATFORM_VARIABLES = frozenset(
    {
        "APP_ADVERTISED_ADDRESS",
        "APP_CONNECTIONS_PER_CLIENT",
        "APP_HOST",
        "APP_METRICS_PORT",
        "APP_PORT",
        "APP_PROXY_HOPS",
        "APP_REVISION",
        "APP_SECRETS_DIR",
    }
)
"""Probes, Services, mounts and the edge rely on them."""
URL_PASSWORD = re.compile(r"(?<=://)([^/@\s]*:)[^/@\s]+(?=@)")
"""User and password in a URL; the first group is what is no secret."""


class Section(BaseModel):
    """An object in a stack file; keys are written in camelCase."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=False)


def one_of(names: tuple[str, ...]) -> AfterValidator:
    """Validator of a text that must be one of `names`."""

    def check(value: str) -> str:
        if value not in names:
            raise refuse(", ".join(names))
        return value

    return AfterValidator(check)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise refuse("a text that is not empty")
    return value


def _dns_label(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", value):
        raise refuse("a Kubernetes name: lower-case letters, digits, '-' and '.'")
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise refuse("a variable of the app, such as APP_LOG_LEVEL")
    if any(word in value for word in _SECRET_WORDS):
        raise refuse("a variable that is not a secret; secrets reach the app as files")
    if value in _PLATFORM_VARIABLES:
        raise refuse("a variable that the platform does not set itself")
    return value


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise refuse("a text or a number")
    if URL_PASSWORD.search(str(value)):
        raise refuse("an address without a password; secrets reach the app as files")
    return str(value)


Text = Annotated[str, BeforeValidator(_text)]
KubernetesName = Annotated[str, BeforeValidator(_text), AfterValidator(_dns_label)]
RoleName = Annotated[str, one_of(tuple(ROLES))]
NamespaceName = Annotated[str, one_of(NAMESPACES)]


class ResourceSettings(Section):
    """Requests and limits of one replica; what is left out keeps its default."""

    cpu_request: Cpu | None = None
    cpu_limit: Cpu | None = None
    memory_request: Memory | None = None
    memory_limit: Memory | None = None


class HoursSettings(Section):
    """A time of the day in which there are more replicas than the minimum at least."""

    start: Clock
    end: Clock
    """Later on the same day."""
    days: Weekdays = "MON-FRI"
    time_zone: TimeZone = "America/New_York"
    replicas: Annotated[int, whole(1, 100)]
    """The minimum in that time."""


class ScalingSettings(Section):
    """Bounds, targets and pace of an autoscaler; what is left out is as the role table says."""

    minimum: Annotated[int, whole(1, 100)]
    maximum: Annotated[int, whole(1, 100)]
    cpu_percent: Annotated[int, whole(10, 95)] | None = None
    """Average utilisation of the CPU request that is aimed at."""
    memory_percent: Annotated[int, whole(10, 95)] | None = None
    """Average utilisation of the memory request that is aimed at."""
    connections_per_replica: Annotated[int, whole(1, 100_000)] | None = None
    """WebSocket connections."""
    requests_per_second: Annotated[int, whole(1, 100_000)] | None = None
    """Requests that each replica answers."""
    messages_behind: Annotated[int, whole(1, 10_000_000)] | None = None
    """Backlog of the broker for each replica."""
    cron: tuple[HoursSettings, ...] = ()
    """Times with a higher minimum."""
    up_window: Duration | None = None
    """How long a higher load must last before replicas are added."""
    down_window: Duration | None = None
    """How long a lower load must last before replicas are taken away."""


class ServiceSettings(Section):
    """How one role differs from the role table in this stack."""

    replicas: Annotated[int, whole(1, 100)] | None = None
    """A fixed number of replicas; switches the autoscaler off."""
    scaling: ScalingSettings | None = None
    resources: ResourceSettings = ResourceSettings()
    environment: dict[Annotated[str, AfterValidator(_variable)], Annotated[str, BeforeValidator(_value)]] = (
        Field(default_factory=dict)
    )


def _url(scheme: str, example: str) -> AfterValidator:
    def check(value: str) -> str:
        found = re.fullmatch(rf"{scheme}://[A-Za-z0-9.-]+(?::(\d{{1,5}}))?", value)
        if found is None or not 0 < int(found[1] or 443) < 65536:
            raise refuse(f"an address such as {example}")
        return value

    return AfterValidator(check)


FEEDS = ("simulated", "exchange", "binance", "alpha-vantage")
"""Sources of prices that the app has."""


class FeedSettings(Section):
    """Where the price collector gets prices from."""

    sources: tuple[Annotated[str, one_of(FEEDS)], ...] = ("simulated",)
    """By precedence: a symbol belongs to the first source that has it."""
    seed: Annotated[int, whole(0, 2**31 - 1)] = 1
    """Of the simulated market."""
    ticks_per_second: Annotated[int, whole(1, 50)] = 2
    """Average price changes of one simulated instrument in a second."""
    binance_url: Annotated[str, BeforeValidator(_text), _url("wss", "wss://data-stream.binance.vision")] = (
        "wss://data-stream.binance.vision"
    )
    """The endpoint that Binance documents for market data alone."""
    alpha_vantage_url: Annotated[
        str, BeforeValidator(_text), _url("https", "https://www.alphavantage.co")
    ] = "https://www.alphavantage.co"
    alpha_vantage_per_minute: Annotated[int, whole(1, 1200)] = 5
    """Requests; 5 is what a free key is allowed, paid plans begin at 75."""
    alpha_vantage_per_day: Annotated[int, whole(1, 2_000_000)] = 25
    """Requests; 25 is what a free key is allowed, paid plans have no limit."""
    alpha_vantage_secret: Text | None = None
    """Where the key of Alpha Vantage is kept, made beforehand outside the stack: in the cloud the ARN of a
    secret of Secrets Manager that holds nothing else; in one cluster the name of a Secret in trading-system,
    with the key `app_alpha_vantage_key`."""


class ReceiverSettings(Section):
    """Who is told of alerts; credentials are in a Secret of trading-monitoring, never here."""

    kind: Literal["webhook", "email", "sns"]
    """`sns` is the topic of the stack's alerts, in the cloud only."""
    secret: KubernetesName | None = None
    """Secret with the key `url` of a webhook, or `password` of a mail server's user."""
    to: Text | None = None
    sender: Text | None = None
    host: KubernetesName | None = None
    """Mail server; it must know STARTTLS."""
    port: Annotated[int, whole(1, 65535)] | None = None
    """TCP port of the webhook (443) or of the mail server (587)."""
    user: Text | None = None


class MonitoringSettings(Section):
    """Metrics, alerts and dashboards."""

    enabled: bool = True
    retention_days: Annotated[int, whole(1, 365, "a number of days")] = 14
    """How long metrics are kept (seeds 002 and 004); the volume may end it earlier."""
    storage: Memory = Memory.parse("20Gi")
    """Volume of Prometheus."""
    resources: ResourceSettings = ResourceSettings()
    """Of Prometheus."""
    verify_kubelet: bool = True
    """False where kubelets sign their certificates themselves, as in kind."""
    receiver: ReceiverSettings | None = None


class QuotaSettings(Section):
    """What all pods of a namespace may use together."""

    cpu_request: Cpu
    cpu_limit: Cpu
    memory_request: Memory
    memory_limit: Memory
    storage: Memory
    pods: Annotated[int, whole(1, 1000)]


class LimitRangeSettings(Section):
    """Defaults and upper bounds of one container."""

    cpu_request: Cpu = Cpu.parse("50m")
    cpu_limit: Cpu = Cpu.parse("500m")
    memory_request: Memory = Memory.parse("64Mi")
    memory_limit: Memory = Memory.parse("256Mi")
    max_cpu: Cpu = Cpu.parse("2")
    max_memory: Memory = Memory.parse("2Gi")


def _default_quotas() -> dict[str, QuotaSettings]:
    sizes: dict[str, tuple[str, str, str, str, str, int]] = {
        "trading-system": ("10", "56", "16Gi", "28Gi", "1Gi", 100),
        "trading-data": ("2", "6", "4Gi", "6Gi", "100Gi", 10),
        "trading-monitoring": ("1", "4", "2Gi", "4Gi", "50Gi", 20),
    }
    keys = ("cpuRequest", "cpuLimit", "memoryRequest", "memoryLimit", "storage", "pods")
    return {
        name: QuotaSettings.model_validate(dict(zip(keys, size, strict=True))) for name, size in sizes.items()
    }


def _origin(value: object) -> str:
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
        raise refuse(
            "the origin of a web page, without a path or wildcard, such as https://trading.example.com"
        )
    return value


class EnvoySettings(Section):
    """How many Envoys there are."""

    minimum: Annotated[int, whole(1, 10)] = 1
    maximum: Annotated[int, whole(1, 10)] = 1
    """More than ten of 2.5 GiB each do not fit into the quota of an add-on's namespace."""


class EdgeSettings(Section):
    """What clients may ask of the public address (seed 000, section 7)."""

    requests_per_second: Annotated[int, whole(1, 100_000)] = 100
    """Requests of one address in a second on one route, at each Envoy; more are answered 429."""
    connections: Annotated[int, whole(0, 100_000)] = 50
    """Open WebSockets of one address at each price-service; 0 for as many as it likes."""
    total_connections: Annotated[int, whole(100, 1_000_000)] = 20_000
    """Open connections of all clients together at each Envoy; more are closed at once. Each takes two file
    descriptors, and an Envoy without any ends: what a container may open must be more than twice as many."""
    websocket_timeout: Duration = Duration(3600)
    """Quiet time after which a WebSocket is closed."""
    cors_origins: tuple[Annotated[str, BeforeValidator(_origin)], ...] = ()
    """Origins whose web pages may use the API, beside the platform's own."""
    internal_networks: tuple[Cidr, ...] = ()
    """Networks that count as inside, for /registry; by default those of the platform's own clusters."""
    replicas: EnvoySettings = EnvoySettings()


class StackSettings(Section):
    """What every `Pulumi.<stack>.yaml` can say under `tradestack:`; each platform adds keys of its own."""

    platform: str
    """Which program the stack gets."""
    allowed_clients: tuple[Cidr, ...] = ("0.0.0.0/0",)
    """Networks that may reach the public entry."""
    edge: EdgeSettings = EdgeSettings()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    feed: FeedSettings = FeedSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    services: dict[RoleName, ServiceSettings] = Field(default_factory=dict)
    quotas: Annotated[
        dict[NamespaceName, QuotaSettings], AfterValidator(lambda given: _default_quotas() | given)
    ] = Field(default_factory=_default_quotas)
    """Quota of each namespace; those that the stack file leaves out keep their default."""
    limit_range: LimitRangeSettings = LimitRangeSettings()
