"""Rules for the keys that all platforms share."""

from collections.abc import Iterator, Sequence

from app.roles import ROLES, Kind, Resources, Scaling
from infra.settings.model import FEEDS, LimitRangeSettings, StackSettings
from infra.settings.quantities import Cpu, Memory
from infra.settings.rules import Problem, reads
from infra.settings.workloads import monitoring_resources, workloads

_LEAST_WEBSOCKET_SECONDS = 60

_WHOLE_FEEDS = ("simulated", "exchange")
"""Sources that have every symbol."""


@reads(StackSettings, "services")
def _scaling_fits_the_role(settings: StackSettings) -> Iterator[Problem]:
    for name, given in settings.services.items():
        kind, key = ROLES[name].kind, f"services.{name}"
        if given.scaling is not None and given.scaling.minimum > given.scaling.maximum:
            low, high = given.scaling.minimum, given.scaling.maximum
            yield Problem(f"{key}.scaling.minimum", low, f"at most scaling.maximum, which is {high}")
        if given.scaling is not None and given.replicas is not None:
            yield Problem(f"{key}.replicas", given.replicas, "either replicas or scaling, not both")
        if kind is Kind.SERVICE:
            continue
        if given.scaling is not None:
            yield Problem(f"{key}.scaling", "given", f"nothing, because '{name}' is a {kind}")
        if given.replicas not in (None, 1):
            yield Problem(f"{key}.replicas", given.replicas, f"1, because '{name}' is a {kind}")


@reads(StackSettings, "services")
def _targets_can_be_measured(settings: StackSettings) -> Iterator[Problem]:
    for name, given in settings.services.items():
        if given.scaling is None or ROLES[name].kind is not Kind.SERVICE:
            continue
        own, key = ROLES[name].scaling or Scaling(1, 1), f"services.{name}.scaling"
        for target, value, known, what in (
            ("connectionsPerReplica", given.scaling.connections_per_replica, own.connections, "connections"),
            ("requestsPerSecond", given.scaling.requests_per_second, own.requests_per_second, "requests"),
            ("messagesBehind", given.scaling.messages_behind, own.lag or own.backlog, "a backlog"),
        ):
            if value is not None and known is None:
                allowed = f"nothing, because the role table does not scale '{name}' by {what}"
                yield Problem(f"{key}.{target}", value, allowed)


@reads(StackSettings, "services")
def _hours_raise_the_minimum(settings: StackSettings) -> Iterator[Problem]:
    for name, given in settings.services.items():
        low, high = (given.scaling.minimum, given.scaling.maximum) if given.scaling else (0, 0)
        for number, hours in enumerate(given.scaling.cron if given.scaling else ()):
            key = f"services.{name}.scaling.cron.{number}"
            if not low < hours.replicas <= high:
                allowed = f"above scaling.minimum, which is {low}, up to scaling.maximum, which is {high}"
                yield Problem(f"{key}.replicas", hours.replicas, allowed)
            if hours.start >= hours.end:
                yield Problem(f"{key}.start", hours.start, f"before end, which is {hours.end}")


@reads(StackSettings, "services")
def _requests_fit_limits(settings: StackSettings) -> Iterator[Problem]:
    for name, item in workloads(settings).items():
        yield from requests_within_limits(f"services.{name}", item.resources)


@reads(StackSettings, "services", "limitRange")
def _containers_fit_the_limit_range(settings: StackSettings) -> Iterator[Problem]:
    for name, item in workloads(settings).items():
        yield from limits_within(settings.limit_range, f"services.{name}", item.resources)


@reads(StackSettings, "limitRange")
def _limit_range_is_ordered(settings: StackSettings) -> Iterator[Problem]:
    given = settings.limit_range
    for what, request, limit, most in (
        ("Cpu", given.cpu_request, given.cpu_limit, given.max_cpu),
        ("Memory", given.memory_request, given.memory_limit, given.max_memory),
    ):
        lower = what.lower()
        if request > limit:
            yield Problem(f"limitRange.{lower}Request", request, f"at most {lower}Limit, which is {limit}")
        if limit > most:
            yield Problem(f"limitRange.{lower}Limit", limit, f"at most max{what}, which is {most}")


@reads(StackSettings, "edge")
def _envoys_are_in_order(settings: StackSettings) -> Iterator[Problem]:
    given = settings.edge.replicas
    if given.minimum > given.maximum:
        allowed = f"at most edge.replicas.maximum, which is {given.maximum}"
        yield Problem("edge.replicas.minimum", given.minimum, allowed)


@reads(StackSettings, "edge")
def _websockets_last_longer_than_requests(settings: StackSettings) -> Iterator[Problem]:
    given = settings.edge.websocket_timeout
    if given < _LEAST_WEBSOCKET_SECONDS:
        allowed = f"at least {_LEAST_WEBSOCKET_SECONDS}s, four heartbeats of the price service"
        yield Problem("edge.websocketTimeout", given, allowed)


@reads(StackSettings, "allowedClients")
def _someone_may_enter(settings: StackSettings) -> Iterator[Problem]:
    if not settings.allowed_clients:
        yield Problem("allowedClients", "[]", "at least one network, such as 0.0.0.0/0")


@reads(StackSettings, "services", "quotas")
def _quota_holds_the_roles(settings: StackSettings) -> Iterator[Problem]:
    pods = [(item.resources, item.most_pods) for item in workloads(settings).values()]
    yield from quota_holds(settings, "trading-system", pods)


@reads(StackSettings, "feed")
def _every_source_has_symbols(settings: StackSettings) -> Iterator[Problem]:
    sources = settings.feed.sources
    if not sources:
        yield Problem("feed.sources", "[]", f"at least one of {', '.join(FEEDS)}")
    for number, source in enumerate(sources):
        before = sources[:number]
        if source in before:
            yield Problem(f"feed.sources.{number}", source, "each source once")
        elif whole := next((name for name in before if name in _WHOLE_FEEDS), None):
            yield Problem(f"feed.sources.{number}", source, f"nothing behind {whole}, which has every symbol")


@reads(StackSettings, "feed")
def _alpha_vantage_has_a_key(settings: StackSettings) -> Iterator[Problem]:
    key, given = "feed.alphaVantageSecret", settings.feed.alpha_vantage_secret
    if "alpha-vantage" in settings.feed.sources and given is None:
        yield Problem(key, "missing", "where its key is kept, because feed.sources names alpha-vantage")
    if "alpha-vantage" not in settings.feed.sources and given is not None:
        yield Problem(key, given, "nothing, because feed.sources does not name alpha-vantage")


_LEAST_METRICS = Memory.parse("512Mi")
"""Below it the write-ahead log alone may fill the volume."""
_SILENCES = Memory.parse("64Mi")
_RELOADER = Resources("50m", "500m", "64Mi", "256Mi")
"""The most that prometheus-operator's own container beside each server takes."""
_RECEIVER_KEYS = {"webhook": ("secret",), "email": ("to", "sender", "host"), "sns": ()}
"""What each kind of receiver cannot do without."""


@reads(StackSettings, "monitoring")
def _metrics_have_room(settings: StackSettings) -> Iterator[Problem]:
    given = settings.monitoring
    if given.storage < _LEAST_METRICS:
        yield Problem("monitoring.storage", given.storage, f"at least {_LEAST_METRICS}")
    yield from requests_within_limits("monitoring", monitoring_resources(settings)["prometheus"])


@reads(StackSettings, "monitoring", "services", "platform")
def _autoscalers_have_their_metrics(settings: StackSettings) -> Iterator[Problem]:
    if settings.monitoring.enabled:
        return
    scalings = {name: item.scaling for name, item in sorted(workloads(settings).items()) if item.scaling}
    blind = [
        name
        for name, scaling in scalings.items()
        if scaling.connections or scaling.requests_per_second or scaling.backlog
    ]
    if blind:
        allowed = f"true, or a number of replicas for {', '.join(blind)}, whose autoscalers ask Prometheus"
        yield Problem("monitoring.enabled", "false", allowed)


@reads(StackSettings, "monitoring", "limitRange")
def _prometheus_fits_the_limit_range(settings: StackSettings) -> Iterator[Problem]:
    yield from limits_within(settings.limit_range, "monitoring", monitoring_resources(settings)["prometheus"])


@reads(StackSettings, "monitoring", "quotas")
def _quota_holds_monitoring(settings: StackSettings) -> Iterator[Problem]:
    if not settings.monitoring.enabled:
        return
    # A reloader is no pod, but the pods are counted generously here.
    pods = [(item, 1) for item in (*monitoring_resources(settings).values(), _RELOADER, _RELOADER)]
    yield from quota_holds(settings, "trading-monitoring", pods)
    volumes = Memory(settings.monitoring.storage + _SILENCES)
    quota = settings.quotas["trading-monitoring"]
    if quota.storage < volumes:
        allowed = f"at least the volumes of monitoring, which are {volumes}"
        yield Problem("quotas.trading-monitoring.storage", quota.storage, allowed)


@reads(StackSettings, "monitoring", "platform")
def _receiver_can_be_told(settings: StackSettings) -> Iterator[Problem]:
    receiver = settings.monitoring.receiver
    if receiver is None:
        return
    for name in _RECEIVER_KEYS[receiver.kind]:
        if getattr(receiver, name) is None:
            yield Problem(f"monitoring.receiver.{name}", "missing", f"given where kind is {receiver.kind}")
    if receiver.kind == "email" and (receiver.user is None) != (receiver.secret is None):
        yield Problem("monitoring.receiver.user", receiver.user, "given with secret, or neither")
    if receiver.kind == "sns" and settings.platform != "aws":
        yield Problem("monitoring.receiver.kind", "sns", "webhook, email where the platform is not aws")


def requests_within_limits(key: str, resources: Resources) -> Iterator[Problem]:
    """Problems where a container asks for more than it may use."""
    for what, quantity in (("cpu", Cpu), ("memory", Memory)):
        request, limit = getattr(resources, f"{what}_request"), getattr(resources, f"{what}_limit")
        if quantity.parse(request) > quantity.parse(limit):
            path = f"{key}.resources.{what}Request"
            yield Problem(path, request, f"at most {what}Limit, which is {limit}")


def limits_within(ceiling: LimitRangeSettings, key: str, resources: Resources) -> Iterator[Problem]:
    """Problems where a container may use more than the namespace allows to one."""
    if Cpu.parse(resources.cpu_limit) > ceiling.max_cpu:
        allowed = f"at most limitRange.maxCpu, which is {ceiling.max_cpu}"
        yield Problem(f"{key}.resources.cpuLimit", resources.cpu_limit, allowed)
    if Memory.parse(resources.memory_limit) > ceiling.max_memory:
        allowed = f"at most limitRange.maxMemory, which is {ceiling.max_memory}"
        yield Problem(f"{key}.resources.memoryLimit", resources.memory_limit, allowed)


def quota_holds(
    settings: StackSettings, namespace: str, pods: Sequence[tuple[Resources, int]]
) -> Iterator[Problem]:
    """Problems where the quota of `namespace` has no room for these many replicas of each resources."""
    quota, key = settings.quotas[namespace], f"quotas.{namespace}"
    needs = "what all replicas need at full scale during an update, which is"
    for what in ("cpu", "memory"):
        for bound in ("request", "limit"):
            held = getattr(quota, f"{what}_{bound}")
            needed = _total(pods, f"{what}_{bound}")
            if held < needed:
                yield Problem(f"{key}.{what}{bound.capitalize()}", held, f"at least {needs} {needed}")
    count = sum(number for _, number in pods)
    if quota.pods < count:
        yield Problem(f"{key}.pods", quota.pods, f"at least {needs} {count}")


def _total(pods: Sequence[tuple[Resources, int]], field: str) -> Cpu | Memory:
    quantity = Cpu if field.startswith("cpu") else Memory
    return quantity(sum(quantity.parse(getattr(resources, field)) * number for resources, number in pods))
