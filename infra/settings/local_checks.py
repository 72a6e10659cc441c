"""Rules for stacks inside one Kubernetes cluster."""

import re
from collections.abc import Iterator

from infra.settings.checks import limits_within, quota_holds, requests_within_limits
from infra.settings.local import LocalSettings
from infra.settings.quantities import Memory
from infra.settings.rules import Problem, reads
from infra.settings.workloads import connections, data_resources

_OTHER_CONNECTIONS = 10
"""Kept for superusers, probes and people."""


@reads(LocalSettings, "nodePort", "secureNodePort")
def _each_listener_has_a_port(settings: LocalSettings) -> Iterator[Problem]:
    if settings.node_port == settings.secure_node_port:
        yield Problem("secureNodePort", settings.secure_node_port, "another port than nodePort")


@reads(LocalSettings, "postgres", "redis", "kafka")
def _requests_fit_limits(settings: LocalSettings) -> Iterator[Problem]:
    for key, resources in data_resources(settings).items():
        yield from requests_within_limits(key, resources)


@reads(LocalSettings, "postgres", "redis", "kafka", "limitRange")
def _containers_fit_the_limit_range(settings: LocalSettings) -> Iterator[Problem]:
    for key, resources in data_resources(settings).items():
        yield from limits_within(settings.limit_range, key, resources)


_LEAST = {
    "postgres.storage": "256Mi",
    "redis.storage": "64Mi",
    "redis.maxMemory": "8Mi",
    "kafka.storage": "256Mi",
    "kafka.heap": "128Mi",
}
"""Below these a server does not start, or soon ends."""


@reads(LocalSettings, "postgres", "redis", "kafka")
def _data_services_can_start(settings: LocalSettings) -> Iterator[Problem]:
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


@reads(LocalSettings, "postgres", "services")
def _postgres_takes_every_pool(settings: LocalSettings) -> Iterator[Problem]:
    needed = connections(settings) + _OTHER_CONNECTIONS
    if settings.postgres.max_connections < needed:
        allowed = f"at least {needed}, for every replica at full scale during an update"
        yield Problem("postgres.maxConnections", settings.postgres.max_connections, allowed)


@reads(LocalSettings, "feed")
def _feed_key_is_a_secret(settings: LocalSettings) -> Iterator[Problem]:
    given = settings.feed.alpha_vantage_secret
    if given is not None and not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", given):
        allowed = "the name of a Secret in trading-system: lower-case letters, digits, '-' and '.'"
        yield Problem("feed.alphaVantageSecret", given, allowed)


@reads(LocalSettings, "redis")
def _redis_fits_its_container(settings: LocalSettings) -> Iterator[Problem]:
    limit = Memory.parse(data_resources(settings)["redis"].memory_limit)
    if settings.redis.max_memory > limit * 3 // 4:
        allowed = f"at most three quarters of the memory limit, which is {limit}; the rest is for snapshots"
        yield Problem("redis.maxMemory", settings.redis.max_memory, allowed)


@reads(LocalSettings, "kafka")
def _heap_fits_its_container(settings: LocalSettings) -> Iterator[Problem]:
    limit = Memory.parse(data_resources(settings)["kafka"].memory_limit)
    if settings.kafka.heap > limit * 3 // 4:
        allowed = f"at most three quarters of the memory limit, which is {limit}; the rest is for buffers"
        yield Problem("kafka.heap", settings.kafka.heap, allowed)


@reads(LocalSettings, "postgres", "redis", "kafka", "quotas")
def _quota_holds_the_data_services(settings: LocalSettings) -> Iterator[Problem]:
    pods = [(resources, 1) for resources in data_resources(settings).values()]
    yield from quota_holds(settings, "trading-data", pods)
    volumes = Memory(settings.postgres.storage + settings.redis.storage + settings.kafka.storage)
    quota = settings.quotas["trading-data"]
    if quota.storage < volumes:
        allowed = f"at least the volumes of the data services, which are {volumes}"
        yield Problem("quotas.trading-data.storage", quota.storage, allowed)
