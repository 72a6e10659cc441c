"""Stack files that must be refused, each with the words that a person needs to repair it."""

from pathlib import Path

import pytest

from infra.errors import TradestackError
from infra.plan import run, stackfile
from infra.settings import SettingsError, parse

SECTIONS = (
    "platform, allowedClients, edge, logLevel, feed, monitoring, services, quotas, limitRange, kubeconfig, "
    "address, nodePort, secureNodePort, storageClass, postgres, redis, kafka"
)
ROLES = (
    "gateway, market-data, price-collector, price-service, auth, wallet, order, matching-engine, portfolio, "
    "risk, frontend, migrate, topics, notification, housekeeping"
)
CPU = "a CPU amount such as 250m, 0.5 or 2"
SIZE = "a size with a binary unit (Ki, Mi, Gi, Ti) such as 512Mi or 2Gi"
TIME = "a time with a unit (s, m, h) such as 30s or 5m"
FULL_SCALE = "at least what all replicas need at full scale during an update, which is"
QUOTA = "{cpuRequest: 4, cpuLimit: 20, memoryRequest: 6Gi, memoryLimit: 12Gi, storage: 100Gi, pods: 60}"

BAD: list[tuple[str, str, str]] = [
    ("platform missing", "nodePort: 30080", "platform: missing (allowed: local, aws)"),
    ("platform unknown", "platform: azure", "platform: azure (allowed: local, aws)"),
    ("unknown key", "colour: red", f"colour: unknown key (allowed: {SECTIONS})"),
    (
        "misspelt key",
        "nodeport: 30080",
        f"nodeport: unknown key (allowed: {SECTIONS}; did you mean 'nodePort'?)",
    ),
    (
        "misspelt nested key",
        "kafka: {heep: 1Gi}",
        "kafka.heep: unknown key (allowed: storage, heap, resources; did you mean 'heap'?)",
    ),
    (
        "snake case key",
        "redis: {max_memory: 64Mi}",
        "redis.max_memory: unknown key (allowed: storage, maxMemory, resources; did you mean 'maxMemory'?)",
    ),
    ("node port too low", "nodePort: 8080", "nodePort: 8080 (allowed: a port from 30000 to 32767)"),
    ("node port too high", "nodePort: 32768", "nodePort: 32768 (allowed: a port from 30000 to 32767)"),
    ("node port a word", "nodePort: http", "nodePort: http (allowed: a port from 30000 to 32767)"),
    (
        "one port for two listeners",
        "secureNodePort: 30080",
        "secureNodePort: 30080 (allowed: another port than nodePort)",
    ),
    (
        "no requests at all",
        "edge: {requestsPerSecond: 0}",
        "edge.requestsPerSecond: 0 (allowed: a whole number from 1 to 100000)",
    ),
    (
        "connections below none",
        "edge: {connections: -1}",
        "edge.connections: -1 (allowed: a whole number from 0 to 100000)",
    ),
    (
        "any origin",
        'edge: {corsOrigins: ["*"]}',
        "edge.corsOrigins.0: * (allowed: the origin of a web page, without a path or wildcard, such as "
        "https://trading.example.com)",
    ),
    (
        "an origin with a path",
        "edge: {corsOrigins: [https://trading.example.com/app]}",
        "edge.corsOrigins.0: https://trading.example.com/app (allowed: the origin of a web page, without a "
        "path or wildcard, such as https://trading.example.com)",
    ),
    (
        "WebSockets that end before their heartbeat",
        "edge: {websocketTimeout: 10s}",
        "edge.websocketTimeout: 10s (allowed: at least 60s, four heartbeats of the price service)",
    ),
    (
        "an inside that is no network",
        "edge: {internalNetworks: [cluster]}",
        "edge.internalNetworks.0: cluster (allowed: a network in CIDR form without host bits, such as "
        "10.0.0.0/16 or 0.0.0.0/0)",
    ),
    (
        "more Envoys at least than at most",
        "edge: {replicas: {minimum: 3, maximum: 2}}",
        "edge.replicas.minimum: 3 (allowed: at most edge.replicas.maximum, which is 2)",
    ),
    (
        "the edge's own variable",
        "services: {price-service: {environment: {APP_PROXY_HOPS: 3}}}",
        "services.price-service.environment.APP_PROXY_HOPS: unknown name (allowed: a variable that the "
        "platform does not set itself)",
    ),
    (
        "misspelt limit",
        "edge: {requestPerSecond: 10}",
        "edge.requestPerSecond: unknown key (allowed: requestsPerSecond, connections, totalConnections, "
        "websocketTimeout, corsOrigins, internalNetworks, replicas; did you mean 'requestsPerSecond'?)",
    ),
    (
        "autoscalers that nobody tells",
        "monitoring: {enabled: false}",
        "monitoring.enabled: false (allowed: true, or a number of replicas for order, price-service, whose "
        "autoscalers ask Prometheus)",
    ),
    (
        "more Envoys than their namespace holds",
        "edge: {replicas: {minimum: 2, maximum: 20}}",
        "edge.replicas.maximum: 20 (allowed: a whole number from 1 to 10)",
    ),
    (
        "metrics without room",
        "monitoring: {storage: 100Mi}",
        "monitoring.storage: 100Mi (allowed: at least 512Mi)",
    ),
    (
        "metrics beyond the quota",
        "monitoring: {storage: 60Gi}",
        "quotas.trading-monitoring.storage: 50Gi (allowed: at least the volumes of monitoring, which are "
        "61504Mi)",
    ),
    (
        "receiver of an unknown kind",
        "monitoring: {receiver: {kind: pager}}",
        "monitoring.receiver.kind: pager (allowed: webhook, email, sns)",
    ),
    (
        "webhook without its secret",
        "monitoring: {receiver: {kind: webhook}}",
        "monitoring.receiver.secret: missing (allowed: given where kind is webhook)",
    ),
    (
        "topic where there is none",
        "monitoring: {receiver: {kind: sns}}",
        "monitoring.receiver.kind: sns (allowed: webhook, email where the platform is not aws)",
    ),
    ("log level", "logLevel: loud", "logLevel: loud (allowed: debug, info, warning, error)"),
    (
        "network with host bits",
        "allowedClients: [10.0.0.1/8]",
        "allowedClients.0: 10.0.0.1/8 (allowed: a network in CIDR form without host bits, such as "
        "10.0.0.0/16 or "
        "0.0.0.0/0)",
    ),
    ("networks not a list", "allowedClients: 10.0.0.0/8", "allowedClients: 10.0.0.0/8 (allowed: a list)"),
    (
        "no networks",
        "allowedClients: []",
        "allowedClients: [] (allowed: at least one network, such as 0.0.0.0/0)",
    ),
    (
        "storage class",
        "storageClass: Local Path",
        "storageClass: Local Path (allowed: a Kubernetes name: lower-case letters, digits, '-' and '.')",
    ),
    ("storage without unit", "postgres: {storage: 50}", f"postgres.storage: 50 (allowed: {SIZE})"),
    ("storage with decimal unit", "postgres: {storage: 50GB}", f"postgres.storage: 50GB (allowed: {SIZE})"),
    ("storage zero", "redis: {storage: 0Gi}", f"redis.storage: 0Gi (allowed: {SIZE})"),
    (
        "CPU as memory",
        "kafka: {resources: {cpuRequest: 128Mi}}",
        f"kafka.resources.cpuRequest: 128Mi (allowed: {CPU})",
    ),
    (
        "memory as CPU",
        "services: {gateway: {resources: {memoryLimit: 500m}}}",
        f"services.gateway.resources.memoryLimit: 500m (allowed: {SIZE})",
    ),
    (
        "section a number",
        "redis: 3",
        "redis: 3 (allowed: an object with the keys storage, maxMemory, resources)",
    ),
    (
        "seed a truth value",
        "feed: {seed: true}",
        "feed.seed: true (allowed: a whole number from 0 to 2147483647)",
    ),
    (
        "unknown feed",
        "feed: {sources: [bloomberg]}",
        "feed.sources.0: bloomberg (allowed: simulated, exchange, binance, alpha-vantage)",
    ),
    (
        "no feed",
        "feed: {sources: []}",
        "feed.sources: [] (allowed: at least one of simulated, exchange, binance, alpha-vantage)",
    ),
    (
        "the same feed twice",
        "feed: {sources: [binance, binance]}",
        "feed.sources.1: binance (allowed: each source once)",
    ),
    (
        "a feed that never has a symbol",
        "feed: {sources: [simulated, binance]}",
        "feed.sources.1: binance (allowed: nothing behind simulated, which has every symbol)",
    ),
    (
        "a feed without its key",
        "feed: {sources: [alpha-vantage, simulated]}",
        "feed.alphaVantageSecret: missing (allowed: where its key is kept, because feed.sources names "
        "alpha-vantage)",
    ),
    (
        "a key without its feed",
        "feed: {alphaVantageSecret: alpha-vantage}",
        "feed.alphaVantageSecret: alpha-vantage (allowed: nothing, because feed.sources does not name "
        "alpha-vantage)",
    ),
    (
        "a key instead of the name of its secret",
        "feed: {sources: [alpha-vantage, simulated], alphaVantageSecret: ABCD1234}",
        "feed.alphaVantageSecret: ABCD1234 (allowed: the name of a Secret in trading-system: lower-case "
        "letters, digits, '-' and '.')",
    ),
    (
        "a feed in plain text",
        "feed: {sources: [binance, simulated], binanceUrl: 'ws://feed.example'}",
        "feed.binanceUrl: ws://feed.example (allowed: an address such as wss://data-stream.binance.vision)",
    ),
    (
        "feed too fast",
        "feed: {ticksPerSecond: 51}",
        "feed.ticksPerSecond: 51 (allowed: a whole number from 1 to 50)",
    ),
    ("unknown role", "services: {gatway: {}}", f"services.gatway: unknown name (allowed: {ROLES})"),
    (
        "minimum above maximum",
        "services: {gateway: {scaling: {minimum: 5, maximum: 3}}}",
        "services.gateway.scaling.minimum: 5 (allowed: at most scaling.maximum, which is 3)",
    ),
    (
        "scaling without maximum",
        "services: {gateway: {scaling: {minimum: 1}}}",
        "services.gateway.scaling.maximum: missing (allowed: a whole number from 1 to 100)",
    ),
    (
        "scaling to zero",
        "services: {gateway: {scaling: {minimum: 0, maximum: 3}}}",
        "services.gateway.scaling.minimum: 0 (allowed: a whole number from 1 to 100)",
    ),
    (
        "window without unit",
        "services: {gateway: {scaling: {minimum: 1, maximum: 3, upWindow: 60}}}",
        f"services.gateway.scaling.upWindow: 60 (allowed: {TIME})",
    ),
    (
        "replicas and scaling",
        "services: {gateway: {replicas: 2, scaling: {minimum: 1, maximum: 3}}}",
        "services.gateway.replicas: 2 (allowed: either replicas or scaling, not both)",
    ),
    (
        "two migrations at a time",
        "services: {migrate: {replicas: 2}}",
        "services.migrate.replicas: 2 (allowed: 1, because 'migrate' is a task)",
    ),
    (
        "a task that scales",
        "services: {migrate: {scaling: {minimum: 1, maximum: 2}}}",
        "services.migrate.scaling: given (allowed: nothing, because 'migrate' is a task)",
    ),
    (
        "connections of a role that holds none",
        "services: {gateway: {scaling: {minimum: 1, maximum: 2, connectionsPerReplica: 400}}}",
        "services.gateway.scaling.connectionsPerReplica: 400 (allowed: nothing, because the role table does "
        "not scale 'gateway' by connections)",
    ),
    (
        "requests of a role that is not scaled by them",
        "services: {price-service: {scaling: {minimum: 1, maximum: 2, requestsPerSecond: 50}}}",
        "services.price-service.scaling.requestsPerSecond: 50 (allowed: nothing, because the role table does "
        "not scale 'price-service' by requests)",
    ),
    (
        "backlog of a role that has none",
        "services: {frontend: {scaling: {minimum: 1, maximum: 2, messagesBehind: 5}}}",
        "services.frontend.scaling.messagesBehind: 5 (allowed: nothing, because the role table does not "
        "scale 'frontend' by a backlog)",
    ),
    (
        "no connections for each replica",
        "services: {price-service: {scaling: {minimum: 1, maximum: 2, connectionsPerReplica: 0}}}",
        "services.price-service.scaling.connectionsPerReplica: 0 (allowed: a whole number from 1 to 100000)",
    ),
    (
        "memory above its request",
        "services: {gateway: {scaling: {minimum: 1, maximum: 2, memoryPercent: 120}}}",
        "services.gateway.scaling.memoryPercent: 120 (allowed: a whole number from 10 to 95)",
    ),
    (
        "time zone by its abbreviation",
        "services: {gateway: {scaling: {minimum: 1, maximum: 3, cron: "
        '[{start: "09:30", end: "16:00", timeZone: EST, replicas: 2}]}}}',
        "services.gateway.scaling.cron.0.timeZone: EST (allowed: an IANA time zone such as America/New_York)",
    ),
    (
        "time zone that does not exist",
        "services: {gateway: {scaling: {minimum: 1, maximum: 3, cron: "
        '[{start: "09:30", end: "16:00", timeZone: America/Gotham, replicas: 2}]}}}',
        "services.gateway.scaling.cron.0.timeZone: America/Gotham (allowed: an IANA time zone such as "
        "America/New_York)",
    ),
    (
        "hours that raise nothing",
        "services: {gateway: {scaling: {minimum: 2, maximum: 3, cron: "
        '[{start: "09:30", end: "16:00", replicas: 2}]}}}',
        "services.gateway.scaling.cron.0.replicas: 2 (allowed: above scaling.minimum, which is 2, up to "
        "scaling.maximum, which is 3)",
    ),
    (
        "hours above the maximum",
        "services: {gateway: {scaling: {minimum: 2, maximum: 3, cron: "
        '[{start: "09:30", end: "16:00", replicas: 4}]}}}',
        "services.gateway.scaling.cron.0.replicas: 4 (allowed: above scaling.minimum, which is 2, up to "
        "scaling.maximum, which is 3)",
    ),
    (
        "hours over midnight",
        "services: {gateway: {scaling: {minimum: 2, maximum: 3, cron: "
        '[{start: "22:00", end: "02:00", replicas: 3}]}}}',
        "services.gateway.scaling.cron.0.start: 22:00 (allowed: before end, which is 02:00)",
    ),
    (
        "hours without replicas",
        'services: {gateway: {scaling: {minimum: 2, maximum: 3, cron: [{start: "09:30", end: "16:00"}]}}}',
        "services.gateway.scaling.cron.0.replicas: missing (allowed: a whole number from 1 to 100)",
    ),
    (
        "days in other words",
        "services: {gateway: {scaling: {minimum: 2, maximum: 3, cron: "
        '[{start: "09:30", end: "16:00", days: daily, replicas: 3}]}}}',
        "services.gateway.scaling.cron.0.days: daily (allowed: MON-FRI, MON-SAT, MON-SUN)",
    ),
    (
        "request above limit",
        "services: {market-data: {resources: {cpuRequest: 1, cpuLimit: 250m}}}",
        "services.market-data.resources.cpuRequest: 1 (allowed: at most cpuLimit, which is 250m)",
    ),
    (
        "request above the default limit",
        "services: {frontend: {resources: {memoryRequest: 512Mi}}}",
        "services.frontend.resources.memoryRequest: 512Mi (allowed: at most memoryLimit, which is 256Mi)",
    ),
    (
        "limit above the limit range",
        "kafka: {resources: {memoryLimit: 3Gi}}",
        "kafka.resources.memoryLimit: 3Gi (allowed: at most limitRange.maxMemory, which is 2Gi)",
    ),
    (
        "limit range upside down",
        "limitRange: {cpuRequest: 1, cpuLimit: 500m}",
        "limitRange.cpuRequest: 1 (allowed: at most cpuLimit, which is 500m)",
    ),
    (
        "more pools than connections",
        "postgres: {maxConnections: 100}",
        "postgres.maxConnections: 100 (allowed: at least 350, for every replica at full scale during an "
        "update)",
    ),
    (
        "heap fills the container",
        "kafka: {heap: 900Mi}",
        "kafka.heap: 900Mi (allowed: at most three quarters of the memory limit, which is 1Gi; the rest "
        "is for "
        "buffers)",
    ),
    (
        "redis fills the container",
        "redis: {maxMemory: 250Mi}",
        "redis.maxMemory: 250Mi (allowed: at most three quarters of the memory limit, which is 256Mi; "
        "the rest is "
        "for snapshots)",
    ),
    (
        "secret in a variable",
        "services: {gateway: {environment: {APP_API_TOKEN: abc}}}",
        "services.gateway.environment.APP_API_TOKEN: unknown name (allowed: a variable that is not a secret; "
        "secrets reach the app as files)",
    ),
    (
        "variable of something else",
        "services: {gateway: {environment: {PATH: /bin}}}",
        "services.gateway.environment.PATH: unknown name (allowed: a variable of the app, such as "
        "APP_LOG_LEVEL)",
    ),
    (
        "password in an address",
        "services: {gateway: {environment: {APP_DATABASE_URL: 'postgresql+asyncpg://u:pw@h/d'}}}",
        "services.gateway.environment.APP_DATABASE_URL: postgresql+asyncpg://u:***@h/d (allowed: an address "
        "without a password; secrets reach the app as files)",
    ),
    (
        "variable of the platform",
        "services: {gateway: {environment: {APP_PORT: 80}}}",
        "services.gateway.environment.APP_PORT: unknown name (allowed: a variable that the platform does "
        "not set itself)",
    ),
    (
        "window longer than Kubernetes takes",
        "services: {gateway: {scaling: {minimum: 1, maximum: 2, downWindow: 2h}}}",
        "services.gateway.scaling.downWindow: 2h (allowed: at most 3600s)",
    ),
    (
        "size beyond all disks",
        "postgres: {storage: 99999999Ti}",
        "postgres.storage: 99999999Ti (allowed: at most 1024Ti)",
    ),
    ("heap of nothing", "kafka: {heap: 1Ki}", "kafka.heap: 1Ki (allowed: at least 128Mi)"),
    ("number that is none", "nodePort: .nan", "nodePort: NaN (allowed: a port from 30000 to 32767)"),
    (
        "quota of an unknown namespace",
        f"quotas: {{default: {QUOTA}}}",
        "quotas.default: unknown name (allowed: trading-system, trading-data, trading-monitoring)",
    ),
    (
        "quota below CPU requests",
        f"quotas: {{trading-data: {QUOTA.replace('cpuRequest: 4', 'cpuRequest: 200m')}}}",
        f"quotas.trading-data.cpuRequest: 200m (allowed: {FULL_SCALE} 300m)",
    ),
    (
        "quota below pods",
        f"quotas: {{trading-data: {QUOTA.replace('pods: 60', 'pods: 2')}}}",
        f"quotas.trading-data.pods: 2 (allowed: {FULL_SCALE} 3)",
    ),
    (
        "quota below volumes",
        f"quotas: {{trading-data: {QUOTA.replace('storage: 100Gi', 'storage: 10Gi')}}}",
        "quotas.trading-data.storage: 10Gi (allowed: at least the volumes of the data services, which "
        "are 70Gi)",
    ),
]


def _stack_file(directory: Path, settings: str) -> Path:
    """A stack file with one line of settings, valid but for it."""
    lines = (
        [settings]
        if "platform" in settings or settings == "nodePort: 30080"
        else ["platform: local", settings]
    )
    path = directory / "Pulumi.bad.yaml"
    path.write_text("config:\n" + "".join(f"  tradestack:{line}\n" for line in lines))
    return path


def _refusal(path: Path) -> SettingsError:
    configuration = stackfile.configuration(path)
    with pytest.raises(SettingsError) as refused:
        parse({key.split(":", 1)[1]: value for key, value in configuration.items()}, file=path.name)
    return refused.value


@pytest.mark.parametrize(
    ("settings", "reason"), [(line, reason) for _, line, reason in BAD], ids=[b[0] for b in BAD]
)
def test_refused_with_the_exact_reason(tmp_path: Path, settings: str, reason: str) -> None:
    refusal = _refusal(_stack_file(tmp_path, settings))
    assert (
        str(refusal) == f"Pulumi.bad.yaml: 1 setting is refused, nothing was changed\n  tradestack:{reason}"
    )


def test_all_reasons_at_once(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.bad.yaml"
    path.write_text(
        "config:\n  tradestack:platform: moon\n  tradestack:nodePort: 1\n  tradestack:colour: red\n"
        "  tradestack:kafka: {heap: 2Gi, storage: 1GB}\n  tradestack:redis: {maxMemory: 1Gi}\n"
        "  tradestack:services: {gateway: {scaling: {minimum: 4, maximum: 2}}}\n"
    )
    keys = [problem.key for problem in _refusal(path).problems]
    assert sorted(keys) == [
        "colour",
        "kafka.storage",
        "nodePort",
        "platform",
        "redis.maxMemory",
        "services.gateway.scaling.minimum",
    ]


def test_nothing_is_registered_before_settings_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[str] = []
    monkeypatch.setattr(
        "pulumi.CustomResource.__init__", lambda self, *_: registered.append(type(self).__name__)
    )
    with pytest.raises(
        TradestackError, match=r"tradestack:nodePort: 80 \(allowed: a port from 30000 to 32767\)"
    ):
        run("local", settings_file=_stack_file(tmp_path, "nodePort: 80"))
    assert registered == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("config:\n  platform: local\n", "the key 'platform' has no namespace; write 'tradestack:platform'"),
        ("config: [a]\n", "'config' is not an object of keys and values"),
        ("- a\n", "is not an object of keys and values"),
        ("config:\n  a: [\n", "is not valid YAML"),
        ("config:\n  ? [a]\n  : b\n", "the key '['a']' is no text"),
        ("config:\n  tradestack:x: 2020-13-45\n", "cannot be read: month must be in 1..12"),
        ("config:\n  tradestack:x: &a [*a]\n", "the value of 'tradestack:x' is not usable: Circular"),
        ("config:\n  tradestack:platform: local\n  tradestack:platform: local\n", "is given twice"),
        (
            "config:\n  tradestack:x: {secure: abc}\n",
            "'tradestack:x' is encrypted; only the engine can read it",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "Pulumi.bad.yaml"
    path.write_text(content)
    with pytest.raises(TradestackError, match=r"^Pulumi\.bad\.yaml") as refused:
        stackfile.configuration(path)
    assert reason in str(refused.value)


def test_a_file_that_is_no_text_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.bad.yaml"
    path.write_bytes(b"config:\n  tradestack:platform: \xff\n")
    with pytest.raises(TradestackError, match=r"^Pulumi\.bad\.yaml cannot be read: "):
        stackfile.configuration(path)


def test_an_empty_file_lacks_the_platform(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.bad.yaml"
    path.write_text("")
    assert [str(problem) for problem in _refusal(path).problems] == [
        "tradestack:platform: missing (allowed: local, aws)"
    ]


def test_a_misspelt_namespace_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.bad.yaml"
    path.write_text("config:\n  tradestack:platform: local\n  tradestak:nodePort: 30081\n")
    with pytest.raises(TradestackError) as refused:
        run("local", settings_file=path)
    assert "\n  tradestak:nodePort: unknown namespace (allowed: tradestack:, pulumi:, " in str(refused.value)


def test_unknown_stack_names_those_that_exist() -> None:
    with pytest.raises(TradestackError, match=r"there is no stack 'lokal': .*\(stacks: .*local"):
        run("lokal")
