"""Assertions about MSK."""

from collections.abc import Iterator

from infra.policy.model import Estate, Resource
from infra.policy.registry import assertion
from infra.policy.rules import customer_key, is_set, number, unread, zones

_CLUSTER = "aws:msk/cluster:Cluster"
_CONFIGURATION = "aws:msk/configuration:Configuration"

_BROKERS = 3
_PROPERTIES = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
    "auto.create.topics.enable": "false",
}
_DESTINATIONS = ("cloudwatchLogs", "s3", "firehose")


@assertion(35, "Kafka speaks TLS with clients and among brokers", "MSK.1", on=[_CLUSTER], family="MSK")
def tls(cluster: Resource, estate: Estate) -> Iterator[str]:
    """AWS's default for both, but a setting can take it away."""
    transit = "encryptionInfo.encryptionInTransit"
    if not is_set(cluster, f"{transit}.clientBroker", "TLS"):
        yield "clients may speak without TLS"
    if not is_set(cluster, f"{transit}.inCluster"):
        yield "brokers speak without TLS among themselves"


@assertion(36, "Kafka is encrypted at rest under a customer key", on=[_CLUSTER], family="MSK")
def at_rest(cluster: Resource, estate: Estate) -> Iterator[str]:
    """The volumes of the brokers."""
    if not customer_key(cluster, "encryptionInfo.encryptionAtRestKmsKeyArn", estate):
        yield "encryption at rest has no customer key"


@assertion(37, "Kafka knows every client", "MSK.6", on=[_CLUSTER], family="MSK", severity="critical")
def authentication(cluster: Resource, estate: Estate) -> Iterator[str]:
    """By IAM, SCRAM or certificates; nobody unknown."""
    given = "clientAuthentication"
    if not (
        is_set(cluster, f"{given}.sasl.iam")
        or is_set(cluster, f"{given}.sasl.scram")
        or cluster.given(f"{given}.tls")
    ):
        yield "there is no authentication of clients"
    if cluster.get(f"{given}.unauthenticated", False) not in (False, None):
        yield "clients without authentication are let in"


@assertion(
    38,
    "Kafka is not public and has three brokers in three zones",
    "MSK.4",
    on=[_CLUSTER],
    family="MSK",
)
def brokers(cluster: Resource, estate: Estate) -> Iterator[str]:
    """So that a zone may fail and a majority is left."""
    public = cluster.get("brokerNodeGroupInfo.connectivityInfo.publicAccess.type", "DISABLED")
    if public != "DISABLED":
        yield "the brokers have public addresses"
    count = number(cluster, "numberOfBrokerNodes")
    if count is None or count < _BROKERS:
        yield f"there are {count or 0:g} brokers, not {_BROKERS}"
    found = zones(cluster, "brokerNodeGroupInfo.clientSubnets", estate)
    if len(found) < _BROKERS:
        yield f"the brokers are in {len(found)} zones known, not {_BROKERS}"


@assertion(39, "Kafka loses nothing that it confirmed", on=[_CLUSTER], family="MSK")
def durability(cluster: Resource, estate: Estate) -> Iterator[str]:
    """Three copies, two of them in step, no leader that lags, no topic by accident."""
    found = estate.targets(cluster, "configurationInfo", _CONFIGURATION)
    if not found:
        yield "there is no configuration of the stack"
    for configuration in found:
        text = configuration.get("serverProperties")
        if not isinstance(text, str):
            yield unread("the configuration")
            continue
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
        given = {key.strip(): value.strip() for key, value in pairs}
        for key, wanted in _PROPERTIES.items():
            if given.get(key) != wanted:
                yield f"{key} is {given.get(key, 'not set')}, not {wanted}"


@assertion(40, "Kafka's brokers log and can be watched", on=[_CLUSTER], family="MSK", severity="medium")
def logs(cluster: Resource, estate: Estate) -> Iterator[str]:
    """Logs to one place at least; metrics of the JVM and of the node for Prometheus."""
    if not any(is_set(cluster, f"loggingInfo.brokerLogs.{place}.enabled") for place in _DESTINATIONS):
        yield "broker logs go nowhere"
    for exporter in ("jmxExporter", "nodeExporter"):
        if not is_set(cluster, f"openMonitoring.prometheus.{exporter}.enabledInBroker"):
            yield f"open monitoring lacks {exporter}"
