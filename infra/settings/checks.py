"""Rules that concern several keys at once.

Each rule names the top-level keys it reads; it is skipped while one of them is in error for itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.roles import ROLES, Kind, Resources
from infra.settings.model import StackSettings
from infra.settings.quantities import Cpu, Memory
from infra.settings.workloads import data_resources, workloads


@dataclass(frozen=True)
class Problem:
    """One reason why a stack file is refused."""

    key: str
    """Path below the project's namespace, such as `services.gateway.scaling.minimum`."""
    value: object
    allowed: str
    whole: bool = False
    """`key` already names its namespace."""

    def __str__(self) -> str:
        key = self.key if self.whole else f"tradestack:{self.key}"
        return f"{key}: {self.value} (allowed: {self.allowed})"


Rule = Callable[[StackSettings], Iterator[Problem]]
RULES: list[tuple[frozenset[str], Rule]] = []
"""Every rule with the top-level keys that it reads."""


def _reads(*keys: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.append((frozenset(keys), rule))
        return rule

    return register


@_reads("services")
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


@_reads("services", "postgres", "redis", "kafka")
def _requests_fit_limits(settings: StackSettings) -> Iterator[Problem]:
    owners = {f"services.{name}": item.resources for name, item in workloads(settings).items()}
    for key, resources in {**owners, **data_resources(settings)}.items():
        for what, quantity in (("cpu", Cpu), ("memory", Memory)):
            request, limit = getattr(resources, f"{what}_request"), getattr(resources, f"{what}_limit")
            if quantity.parse(request) > quantity.parse(limit):
                path = f"{key}.resources.{what}Request"
                yield Problem(path, request, f"at most {what}Limit, which is {limit}")


@_reads("services", "postgres", "redis", "kafka", "limitRange")
def _containers_fit_the_limit_range(settings: StackSettings) -> Iterator[Problem]:
    owners = {f"services.{name}": item.resources for name, item in workloads(settings).items()}
    ceiling = settings.limit_range
    for key, resources in {**owners, **data_resources(settings)}.items():
        if Cpu.parse(resources.cpu_limit) > ceiling.max_cpu:
            allowed = f"at most limitRange.maxCpu, which is {ceiling.max_cpu}"
            yield Problem(f"{key}.resources.cpuLimit", resources.cpu_limit, allowed)
        if Memory.parse(resources.memory_limit) > ceiling.max_memory:
            allowed = f"at most limitRange.maxMemory, which is {ceiling.max_memory}"
            yield Problem(f"{key}.resources.memoryLimit", resources.memory_limit, allowed)


@_reads("limitRange")
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


_LEAST = {
    "postgres.storage": "256Mi",
    "redis.storage": "64Mi",
    "redis.maxMemory": "8Mi",
    "kafka.storage": "256Mi",
    "kafka.heap": "128Mi",
}
"""Below these a server does not start, or soon ends."""


@_reads("postgres", "redis", "kafka")
def _data_services_can_start(settings: StackSettings) -> Iterator[Problem]:
    given = {
        "postgres.storage": settings.postgres.storage,
        "redis.storage": settings.redis.storage,
        "redis.maxMemory": settings.redis.max_memory,
        "kafka.storage": settings.kafka.storage,
        "kafka.heap": settings.kafka.heap,
    }
    for key, value in given.items():
        if value < Memory.parse(_LEAST[key]):
            yield Problem(key, value, f"at least {_LEAST[key]}")


@_reads("redis")
def _redis_fits_its_container(settings: StackSettings) -> Iterator[Problem]:
    limit = Memory.parse(data_resources(settings)["redis"].memory_limit)
    if settings.redis.max_memory > limit * 3 // 4:
        allowed = f"at most three quarters of the memory limit, which is {limit}; the rest is for snapshots"
        yield Problem("redis.maxMemory", settings.redis.max_memory, allowed)


@_reads("kafka")
def _heap_fits_its_container(settings: StackSettings) -> Iterator[Problem]:
    limit = Memory.parse(data_resources(settings)["kafka"].memory_limit)
    if settings.kafka.heap > limit * 3 // 4:
        allowed = f"at most three quarters of the memory limit, which is {limit}; the rest is for buffers"
        yield Problem("kafka.heap", settings.kafka.heap, allowed)


@_reads("allowedClients")
def _someone_may_enter(settings: StackSettings) -> Iterator[Problem]:
    if not settings.allowed_clients:
        yield Problem("allowedClients", "[]", "at least one network, such as 0.0.0.0/0")


@_reads("services", "postgres", "redis", "kafka", "quotas")
def _quotas_hold_everything(settings: StackSettings) -> Iterator[Problem]:
    app = [(item.resources, item.most_pods) for item in workloads(settings).values()]
    data = [(resources, 1) for resources in data_resources(settings).values()]
    for namespace, pods in {"trading-system": app, "trading-data": data}.items():
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
    volumes = Memory(settings.postgres.storage + settings.redis.storage + settings.kafka.storage)
    quota = settings.quotas["trading-data"]
    if quota.storage < volumes:
        allowed = f"at least the volumes of the data services, which are {volumes}"
        yield Problem("quotas.trading-data.storage", quota.storage, allowed)


def _total(pods: list[tuple[Resources, int]], field: str) -> Cpu | Memory:
    quantity = Cpu if field.startswith("cpu") else Memory
    return quantity(sum(quantity.parse(getattr(resources, field)) * number for resources, number in pods))
