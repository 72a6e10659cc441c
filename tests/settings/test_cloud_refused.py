"""Cloud stack files that must be refused: `prod` with one thing wrong, and the words that repair it."""

import json
from typing import Any

import pytest

from infra.plan import stackfile
from infra.settings import CloudSettings, SettingsError, parse, sizes

PRODUCTION = ", because environment is production"
NODES = {"general": {"instanceTypes": ["m7i.large"], "minimum": 3, "maximum": 3}}
DATABASES = ", ".join(sizes.DATABASE)
PRIVATE = "a private network; a database is never public"


def _given(stack: str = "prod") -> dict[str, Any]:
    configuration = stackfile.configuration(stackfile.locate(stack))
    return {key.split(":", 1)[1]: value for key, value in configuration.items() if "tradestack:" in key}


def _changed(path: str, value: object, stack: str = "prod") -> dict[str, Any]:
    """The settings of `stack` with `value` at `path`; None takes the key away."""
    given = _given(stack)
    top, *rest = path.split(".")
    if not rest:
        found: dict[str, Any] = given
        rest = [top]
    else:
        given[top] = json.loads(given.get(top) or "{}")
        found = given[top]
    for part in rest[:-1]:
        found = found.setdefault(part, {})
    if value is None:
        found.pop(rest[-1], None)
    else:
        found[rest[-1]] = value
    return given


BAD: list[tuple[str, object, str]] = [
    ("account", None, "account: missing (allowed: an AWS account of twelve digits, in quotes)"),
    ("account", "12345", "account: 12345 (allowed: an AWS account of twelve digits, in quotes)"),
    ("region", "useast1", "region: useast1 (allowed: an AWS region such as us-east-1)"),
    ("environment", "live", "environment: live (allowed: development, staging, production)"),
    ("owner", "platform", "owner: platform (allowed: an e-mail address)"),
    ("domain", "Trading", "domain: Trading (allowed: a domain such as trading.example.com)"),
    (
        "hostedZone",
        "example.com",
        "hostedZone: example.com (allowed: the id of a Route 53 hosted zone, such as Z0ABCDEFGHIJ)",
    ),
    ("alertEmails", [], "alertEmails: [] (allowed: at least one e-mail address)"),
    ("budget", 0, "budget: 0 (allowed: a whole number of USD from 1 to 10000000)"),
    ("nodePort", 30080, "nodePort: unknown key (allowed: "),
    (
        "image.digest",
        "latest",
        "image.digest: latest (allowed: an image digest: sha256: and 64 hex digits)",
    ),
    (
        "network.zones",
        ["us-east-1a", "us-east-1b"],
        "network.zones: us-east-1a, us-east-1b (allowed: 3 to 6 zones, for brokers, nodes and database to "
        "survive one)",
    ),
    (
        "network.zones",
        ["us-east-1a", "us-east-1b", "us-east-1b"],
        "network.zones.2: us-east-1b (allowed: each zone once)",
    ),
    (
        "network.zones",
        ["us-east-1a", "us-east-1b", "us-west-2a"],
        "network.zones.2: us-west-2a (allowed: a zone of region, which is us-east-1)",
    ),
    ("network.zones", None, "network.zones: missing (allowed: a list)"),
    (
        "network.cidr",
        "10.30.0.1/16",
        "network.cidr: 10.30.0.1/16 (allowed: a network in CIDR form without host bits, such as "
        "10.0.0.0/16 or 0.0.0.0/0)",
    ),
    (
        "network.cidr",
        "8.8.0.0/16",
        "network.cidr: 8.8.0.0/16 (allowed: a private network with the prefix /16, such as 10.0.0.0/16)",
    ),
    (
        "network.cidr",
        "10.30.0.0/20",
        "network.cidr: 10.30.0.0/20 (allowed: a private network with the prefix /16, such as 10.0.0.0/16)",
    ),
    (
        "cluster.serviceCidr",
        "10.30.128.0/20",
        "cluster.serviceCidr: 10.30.128.0/20 (allowed: a network that does not overlap network.cidr, which "
        "is 10.30.0.0/16)",
    ),
    ("network.natPerZone", False, f"network.natPerZone: false (allowed: true{PRODUCTION})"),
    (
        "cluster.publicAccess",
        ["0.0.0.0/0"],
        "cluster.publicAccess.0: 0.0.0.0/0 (allowed: a network with a prefix of /8 or longer; the API server "
        "is never open to everyone)",
    ),
    ("cluster.version", "1.29", "cluster.version: 1.29 (allowed: 1.35, 1.36)"),
    (
        "cluster.version",
        "1.36",
        "cluster.addons.kube-proxy: v1.35.3-eksbuild.29 (allowed: a version v1.36.x, because cluster.version "
        "is 1.36)",
    ),
    (
        "cluster.addons",
        {"coredns": "latest"},
        "cluster.addons.coredns: latest (allowed: an add-on version such as v1.13.2-eksbuild.31)",
    ),
    ("cluster.admins", {"ops": "ops"}, "cluster.admins.ops: ops (allowed: an ARN)"),
    (
        "cluster.nodeGroups",
        {"general": {**NODES["general"], "instanceTypes": ["p5.48xlarge"]}},
        f"cluster.nodeGroups.general.instanceTypes.0: p5.48xlarge (allowed: {', '.join(sizes.EC2)})",
    ),
    (
        "cluster.nodeGroups",
        {"general": {**NODES["general"], "instanceTypes": []}},
        "cluster.nodeGroups.general.instanceTypes: [] (allowed: at least one instance type)",
    ),
    (
        "cluster.nodeGroups",
        {"general": {**NODES["general"], "minimum": 5}},
        "cluster.nodeGroups.general.minimum: 5 (allowed: at most maximum, which is 3)",
    ),
    (
        "cluster.nodeGroups",
        {"general": {**NODES["general"], "dedicated": True}},
        "cluster.nodeGroups: minimum 0 in all (allowed: at least 3 nodes without dedication over all groups, "
        "one for each zone)",
    ),
    (
        "cluster.nodeGroups",
        {"General Purpose": NODES["general"]},
        "cluster.nodeGroups.General Purpose: unknown name (allowed: a name of up to 20 letters, digits and "
        "'-')",
    ),
    ("database.instanceClass", "db.huge", f"database.instanceClass: db.huge (allowed: {DATABASES})"),
    ("database.instanceClass", None, f"database.instanceClass: missing (allowed: {DATABASES})"),
    (
        "database.instanceClass",
        "db.t3.large",
        f"database.instanceClass: db.t3.large (allowed: a class without CPU credits, such as db.m7g.large"
        f"{PRODUCTION})",
    ),
    ("database.multiAz", False, f"database.multiAz: false (allowed: true{PRODUCTION})"),
    ("database.readReplicas", 0, f"database.readReplicas: 0 (allowed: at least 1{PRODUCTION})"),
    ("database.backupDays", 3, "database.backupDays: 3 (allowed: a number of days from 7 to 35)"),
    ("database.backupDays", 14, f"database.backupDays: 14 (allowed: at least 30{PRODUCTION})"),
    ("database.maxStorage", 50, "database.maxStorage: 50 (allowed: at least 110, 10 % above storage)"),
    (
        "database.allowedNetworks",
        ["0.0.0.0/0"],
        f"database.allowedNetworks.0: 0.0.0.0/0 (allowed: {PRIVATE})",
    ),
    (
        "database.allowedNetworks",
        ["10.0.0.0/8"],
        "database.allowedNetworks.0: 10.0.0.0/8 (allowed: a network inside or outside network.cidr, which is "
        "10.30.0.0/16)",
    ),
    (
        "database.public",
        True,
        "database.public: unknown key (allowed: engineVersion, instanceClass, storage, maxStorage, multiAz, "
        "readReplicas, backupDays, allowedNetworks)",
    ),
    (
        "database.engineVersion",
        "14.1",
        "database.engineVersion: 14.1 (allowed: a PostgreSQL version such as 17 or 17.6)",
    ),
    ("cache.nodeType", "cache.x", f"cache.nodeType: cache.x (allowed: {', '.join(sizes.CACHE)})"),
    ("cache.shards", 3, "cache.shards: 3 (allowed: 1, because mode is replication)"),
    ("cache.mode", "cluster", "cache.shards: 1 (allowed: at least 2, because mode is cluster)"),
    ("cache.replicas", 0, f"cache.replicas: 0 (allowed: at least 1{PRODUCTION})"),
    ("cache.snapshotDays", 2, "cache.snapshotDays: 2 (allowed: a number of days from 7 to 35)"),
    (
        "streaming.brokerType",
        "kafka.t3.small",
        f"streaming.brokerType: kafka.t3.small (allowed: a type without CPU credits, such as kafka.m7g.large"
        f"{PRODUCTION})",
    ),
    ("streaming.brokers", 4, "streaming.brokers: 4 (allowed: a multiple of 3, the same number in each zone)"),
    (
        "streaming.replicationFactor",
        5,
        "streaming.replicationFactor: 5 (allowed: at most brokers, which is 3)",
    ),
    (
        "streaming.minInsync",
        3,
        "streaming.minInsync: 3 (allowed: below replicationFactor, which is 3, so that one broker may rest)",
    ),
    ("streaming.minInsync", 1, f"streaming.minInsync: 1 (allowed: at least 2{PRODUCTION})"),
    (
        "streaming.kafkaVersion",
        "2.8.1",
        "streaming.kafkaVersion: 2.8.1 (allowed: a Kafka version in KRaft mode such as 4.1.x.kraft)",
    ),
    ("containers.minimum", 9, "containers.minimum: 9 (allowed: at most maximum, which is 6)"),
    ("containers.minimum", 1, f"containers.minimum: 1 (allowed: at least 2{PRODUCTION})"),
    (
        "messaging.phones",
        ["5550100"],
        "messaging.phones.0: 5550100 (allowed: a phone number in E.164 form, such as +15550100)",
    ),
    (
        "analytics.retention",
        12,
        "analytics.retention: 12 (allowed: a number of hours from 24 to 8760)",
    ),
    (
        "edge.requestsPerAddress",
        10,
        "edge.requestsPerAddress: 10 (allowed: a whole number from 100 to 2000000)",
    ),
    ("backup.days", 5, "backup.days: 5 (allowed: a number of days from 7 to 3650)"),
    ("backup.days", 7, f"backup.days: 7 (allowed: at least 30{PRODUCTION})"),
    (
        "backup.copyRegion",
        "us-east-1",
        "backup.copyRegion: us-east-1 (allowed: another region than the stack's own)",
    ),
    ("backup.copyRegion", None, f"backup.copyRegion: None (allowed: a region for a second copy{PRODUCTION})"),
    ("delivery.approval", False, f"delivery.approval: false (allowed: true{PRODUCTION})"),
    (
        "delivery.repository",
        "tradestack",
        "delivery.repository: tradestack (allowed: a repository as owner/name)",
    ),
    ("protect", False, f"protect: false (allowed: true{PRODUCTION})"),
    ("logDays", 7, f"logDays: 7 (allowed: at least 30{PRODUCTION})"),
    ("logLevel", "debug", f"logLevel: debug (allowed: info, warning, error{PRODUCTION})"),
    ("doubles", True, f"doubles: true (allowed: false{PRODUCTION})"),
    ("schedule", {}, f"schedule: given (allowed: none{PRODUCTION})"),
    (
        "relax",
        {"TS017": "one instance is enough here"},
        f"relax: given (allowed: none; every assertion holds{PRODUCTION})",
    ),
]


def _refusal(given: dict[str, Any]) -> SettingsError:
    with pytest.raises(SettingsError) as refused:
        parse(given, file="Pulumi.bad.yaml")
    return refused.value


@pytest.mark.parametrize(
    ("path", "value", "reason"), BAD, ids=[f"{path}-{number}" for number, (path, _, _) in enumerate(BAD)]
)
def test_refused_with_the_exact_reason(path: str, value: object, reason: str) -> None:
    refusal = str(_refusal(_changed(path, value)))
    head, told = refusal.split("\n  ", 1)
    assert head == "Pulumi.bad.yaml: 1 setting is refused, nothing was changed"
    if reason.endswith("(allowed: "):
        assert told.startswith(f"tradestack:{reason}")
    else:
        assert told == f"tradestack:{reason}"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("relax", {"MultiAZ": "one is enough for us"}, "relax.MultiAZ: unknown name (allowed: the id of"),
        (
            "relax",
            {"TS017": "cheap"},
            "relax.TS017: cheap (allowed: a reason in words, at least four of them)",
        ),
        ("schedule", {"start": "7am"}, "schedule.start: 7am (allowed: a time of day such as 07:30)"),
        (
            "schedule",
            {"start": "21:00", "stop": "20:00"},
            "schedule.start: 21:00 (allowed: before stop, which is 20:00)",
        ),
        (
            "schedule",
            {"timeZone": "EST"},
            "schedule.timeZone: EST (allowed: an IANA time zone such as America/New_York)",
        ),
        ("usage", {"nat_gib": -1}, "usage.nat_gib: -1 (allowed: a number that is not negative)"),
    ],
)
def test_what_development_may_set_is_checked_too(path: str, value: object, reason: str) -> None:
    assert f"\n  tradestack:{reason}" in str(_refusal(_changed(path, value, "dev")))


def test_all_reasons_at_once_and_rules_of_wrong_keys_left_out() -> None:
    given = _changed("account", "1")
    given["database"] = {
        "instanceClass": "db.m7g.large",
        "multiAz": False,
        "readReplicas": 1,
        "backupDays": 30,
    }
    given["streaming"] = {"brokerType": "nothing", "minInsync": 1}
    del given["network"]
    keys = [problem.key for problem in _refusal(given).problems]
    assert sorted(keys) == ["account", "database.multiAz", "network", "streaming.brokerType"]


def test_what_production_refuses_development_accepts() -> None:
    settings = parse(_given("dev"), file="Pulumi.dev.yaml")
    assert isinstance(settings, CloudSettings)
    assert not settings.database.multi_az
    assert not settings.protect
    assert settings.relax["TS017"].startswith("one database instance")
