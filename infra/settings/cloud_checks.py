"""Rules for stacks on AWS: combinations that cannot work, and what production refuses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_snake

from app.roles import ROLES, Host, Kind, Need
from infra.settings.cloud import BROKER_ZONES, CloudSettings
from infra.settings.rules import Problem, reads
from infra.settings.sizes import database_connections
from infra.settings.workloads import POOL_CONNECTIONS, connections

_PRODUCTION_BACKUP_DAYS = 30
"""Security assertion 20, RDS.11."""
_LEAST_ZONES, _MOST_ZONES = 3, 6
_SLOT_PREFIX = 16
"""The subnet layout needs a /16."""


@reads(CloudSettings, "region", "network")
def _zones_can_hold_a_cluster(settings: CloudSettings) -> Iterator[Problem]:
    zones = settings.network.zones
    if not _LEAST_ZONES <= len(zones) <= _MOST_ZONES:
        allowed = f"{_LEAST_ZONES} to {_MOST_ZONES} zones, for brokers, nodes and database to survive one"
        yield Problem("network.zones", ", ".join(zones) or "[]", allowed)
    for number, zone in enumerate(zones):
        if zone in zones[:number]:
            yield Problem(f"network.zones.{number}", zone, "each zone once")
        if zone[:-1] != settings.region:
            yield Problem(f"network.zones.{number}", zone, f"a zone of region, which is {settings.region}")


@reads(CloudSettings, "network", "cluster", "database")
def _networks_do_not_meet(settings: CloudSettings) -> Iterator[Problem]:
    mine = ip_network(settings.network.cidr)
    if mine.prefixlen != _SLOT_PREFIX or not mine.is_private or mine.version != 4:
        yield Problem("network.cidr", mine, "a private network with the prefix /16, such as 10.0.0.0/16")
    services = ip_network(settings.cluster.service_cidr)
    if not 12 <= services.prefixlen <= 24 or not services.is_private:
        yield Problem("cluster.serviceCidr", services, "a private network with a prefix from /12 to /24")
    if _overlap(mine, services):
        allowed = f"a network that does not overlap network.cidr, which is {mine}"
        yield Problem("cluster.serviceCidr", services, allowed)
    for number, given in enumerate(settings.database.allowed_networks):
        network, key = ip_network(given), f"database.allowedNetworks.{number}"
        if not network.is_private:
            yield Problem(key, given, "a private network; a database is never public")
        elif _overlap(network, mine) and not _inside(network, mine):
            yield Problem(key, given, f"a network inside or outside network.cidr, which is {mine}")


@reads(CloudSettings, "feed", "region", "account")
def _feed_key_is_in_secrets_manager(settings: CloudSettings) -> Iterator[Problem]:
    given = settings.feed.alpha_vantage_secret
    begin = f"arn:aws:secretsmanager:{settings.region}:{settings.account}:secret:"
    if given is not None and not (given.startswith(begin) and len(given) > len(begin)):
        yield Problem("feed.alphaVantageSecret", given, f"an ARN that begins with {begin}")


@reads(CloudSettings, "cluster")
def _api_server_is_not_open(settings: CloudSettings) -> Iterator[Problem]:
    for number, given in enumerate(settings.cluster.public_access):
        if ip_network(given).prefixlen < 8:
            allowed = "a network with a prefix of /8 or longer; the API server is never open to everyone"
            yield Problem(f"cluster.publicAccess.{number}", given, allowed)


@reads(CloudSettings, "cluster")
def _proxy_fits_the_version(settings: CloudSettings) -> Iterator[Problem]:
    version, proxy = settings.cluster.version, settings.cluster.addons["kube-proxy"]
    if not proxy.startswith(f"v{version}."):
        allowed = f"a version v{version}.x, because cluster.version is {version}"
        yield Problem("cluster.addons.kube-proxy", proxy, allowed)


@reads(CloudSettings, "cluster")
def _nodes_can_run_the_platform(settings: CloudSettings) -> Iterator[Problem]:
    groups = settings.cluster.node_groups
    for name, group in groups.items():
        key = f"cluster.nodeGroups.{name}"
        if not group.instance_types:
            yield Problem(f"{key}.instanceTypes", "[]", "at least one instance type")
        if group.minimum > group.maximum:
            yield Problem(f"{key}.minimum", group.minimum, f"at most maximum, which is {group.maximum}")
    shared = sum(group.minimum for group in groups.values() if not group.dedicated)
    if shared < _LEAST_ZONES:
        allowed = f"at least {_LEAST_ZONES} nodes without dedication over all groups, one for each zone"
        yield Problem("cluster.nodeGroups", f"minimum {shared} in all", allowed)


@reads(CloudSettings, "database")
def _database_can_grow(settings: CloudSettings) -> Iterator[Problem]:
    given = settings.database
    least = -(-given.storage * 11 // 10)
    if given.max_storage < least:
        allowed = f"at least {least}, 10 % above storage"
        yield Problem("database.maxStorage", given.max_storage, allowed)


@reads(CloudSettings, "database", "services", "containers")
def _database_takes_every_pool(settings: CloudSettings) -> Iterator[Problem]:
    """Also while every role is updated at once, and beside the tasks on ECS."""
    outside = sum(
        2 * settings.containers.maximum if role.kind is Kind.SERVICE else 1
        for role in ROLES.values()
        if role.host is Host.CONTAINERS and Need.DATABASE in role.needs
    )
    needed = connections(settings) + outside * POOL_CONNECTIONS
    held = database_connections(settings.database.instance_class)
    if held < needed:
        allowed = f"a class that takes {needed} connections, all replicas at full scale; this takes {held}"
        yield Problem("database.instanceClass", settings.database.instance_class, allowed)


@reads(CloudSettings, "cache")
def _cache_has_its_shape(settings: CloudSettings) -> Iterator[Problem]:
    given = settings.cache
    if given.mode == "replication" and given.shards != 1:
        yield Problem("cache.shards", given.shards, "1, because mode is replication")
    if given.mode == "cluster" and given.shards < 2:
        yield Problem("cache.shards", given.shards, "at least 2, because mode is cluster")


@reads(CloudSettings, "streaming")
def _brokers_can_hold_replicas(settings: CloudSettings) -> Iterator[Problem]:
    given = settings.streaming
    if given.brokers % BROKER_ZONES:
        allowed = f"a multiple of {BROKER_ZONES}, the same number in each zone"
        yield Problem("streaming.brokers", given.brokers, allowed)
    if given.replication_factor > given.brokers:
        allowed = f"at most brokers, which is {given.brokers}"
        yield Problem("streaming.replicationFactor", given.replication_factor, allowed)
    if given.min_insync >= given.replication_factor:
        allowed = f"below replicationFactor, which is {given.replication_factor}, so that one broker may rest"
        yield Problem("streaming.minInsync", given.min_insync, allowed)


@reads(CloudSettings, "containers")
def _containers_scale_upwards(settings: CloudSettings) -> Iterator[Problem]:
    given = settings.containers
    if given.minimum > given.maximum:
        yield Problem("containers.minimum", given.minimum, f"at most maximum, which is {given.maximum}")


@reads(CloudSettings, "backup", "region")
def _copies_go_elsewhere(settings: CloudSettings) -> Iterator[Problem]:
    if settings.backup.copy_region == settings.region:
        yield Problem("backup.copyRegion", settings.region, "another region than the stack's own")


@reads(CloudSettings, "schedule")
def _hours_are_in_order(settings: CloudSettings) -> Iterator[Problem]:
    if settings.schedule is not None and settings.schedule.start >= settings.schedule.stop:
        start, stop = settings.schedule.start, settings.schedule.stop
        yield Problem("schedule.start", start, f"before stop, which is {stop}")


@reads(CloudSettings, "alertEmails")
def _someone_is_told(settings: CloudSettings) -> Iterator[Problem]:
    if not settings.alert_emails:
        yield Problem("alertEmails", "[]", "at least one e-mail address")


@dataclass(frozen=True)
class _Demand:
    """What production asks of one key."""

    key: str
    holds: Callable[[Any], bool]
    allowed: str


def _at_least(number: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value >= number, f"at least {number}"


def _steady(name: str) -> bool:
    return name.split(".")[1][0] != "t"


_IS_TRUE: tuple[Callable[[Any], bool], str] = (bool, "true")
_IS_FALSE: tuple[Callable[[Any], bool], str] = (lambda value: not value, "false")

_DEMANDS = (
    _Demand("network.natPerZone", *_IS_TRUE),
    _Demand("database.multiAz", *_IS_TRUE),
    _Demand("database.readReplicas", *_at_least(1)),
    _Demand("database.backupDays", *_at_least(_PRODUCTION_BACKUP_DAYS)),
    _Demand("database.instanceClass", _steady, "a class without CPU credits, such as db.m7g.large"),
    _Demand("cache.replicas", *_at_least(1)),
    _Demand("streaming.brokerType", _steady, "a type without CPU credits, such as kafka.m7g.large"),
    _Demand("streaming.replicationFactor", *_at_least(3)),
    _Demand("streaming.minInsync", *_at_least(2)),
    _Demand("containers.minimum", *_at_least(2)),
    _Demand("backup.days", *_at_least(_PRODUCTION_BACKUP_DAYS)),
    _Demand("backup.copyRegion", lambda region: region is not None, "a region for a second copy"),
    _Demand("delivery.approval", lambda approval: approval in (None, True), "true"),
    _Demand("protect", *_IS_TRUE),
    _Demand("logDays", *_at_least(30)),
    _Demand("logLevel", lambda level: level != "debug", "info, warning, error"),
    _Demand("doubles", *_IS_FALSE),
    _Demand("schedule", lambda schedule: schedule is None, "none"),
    _Demand("relax", lambda relax: not relax, "none; every assertion holds"),
)
"""Requirements B1-B18 and `prod` of the security assertions."""


def _production(demand: _Demand) -> None:
    section, _, field = demand.key.partition(".")

    @reads(CloudSettings, "environment", section)
    def check(settings: CloudSettings) -> Iterator[Problem]:
        value = getattr(settings, to_snake(section))
        if field and value is not None:
            value = getattr(value, to_snake(field))
        if settings.environment == "production" and not demand.holds(value):
            yield Problem(demand.key, _shown(value), f"{demand.allowed}, because environment is production")


def _shown(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return "given" if isinstance(value, BaseModel | dict) else value


for _demand in _DEMANDS:
    _production(_demand)


def _overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _inside(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]
