"""Each component alone: what it registers, and with which figures."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pulumi
import pulumi_kubernetes
import pytest
from pulumi.runtime import rpc

from app.roles import ROLES, Resources
from components.kubernetes.kafka import Kafka, KafkaArgs
from components.kubernetes.namespace import ContainerLimits, Namespace, NamespaceArgs, Quota
from components.kubernetes.network_policy import Allow, Network, NetworkPolicy, NetworkPolicyArgs, Pods
from components.kubernetes.pod import Pool
from components.kubernetes.postgres import Postgres, PostgresArgs
from components.kubernetes.redis import Redis, RedisArgs
from components.kubernetes.secrets import Credentials, CredentialsArgs, Password, SecretKey
from components.kubernetes.service import Service, ServiceArgs
from components.kubernetes.stateful import DataServiceArgs
from components.kubernetes.tasks import ScheduledTask, ScheduledTaskArgs, Task, TaskArgs

Record = Callable[[Callable[[], object]], Any]
SMALL = Resources("50m", "500m", "128Mi", "256Mi")
DATA = DataServiceArgs(
    namespace="trading-data", image="image:1", resources=SMALL, storage="2Gi", storage_class="local-path"
)
SERVICE = ServiceArgs(
    role=ROLES["gateway"],
    namespace="trading-system",
    image="image:1",
    resources=SMALL,
    replicas=2,
    secret="app-secrets",
    environment={"APP_LOG_LEVEL": "INFO"},
)
TASK = TaskArgs(
    role=ROLES["migrate"],
    namespace="trading-system",
    image="image:1",
    revision="abc",
    resources=SMALL,
    secret="app-secrets",
    waits=("postgresql:5432",),
)


def test_namespace_has_all_guard_rails(record: Record) -> None:
    args = NamespaceArgs(
        quota=Quota("2", "8", "4Gi", "8Gi", "10Gi", 20),
        limits=ContainerLimits("50m", "500m", "64Mi", "256Mi", "2", "2Gi"),
    )
    made = record(lambda: Namespace("trading-system", args))
    assert made.kinds() == ["LimitRange", "Namespace", "NetworkPolicy", "NetworkPolicy", "ResourceQuota"]
    labels = made.one("Namespace", "trading-system")["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
    assert made.one("ResourceQuota")["spec"]["hard"] == {
        "requests.cpu": "2",
        "limits.cpu": "8",
        "requests.memory": "4Gi",
        "limits.memory": "8Gi",
        "requests.storage": "10Gi",
        "pods": "20",
    }
    assert made.one("LimitRange")["spec"]["limits"][0]["max"] == {"cpu": "2", "memory": "2Gi"}
    deny = made.one("NetworkPolicy", "trading-system-default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    dns = made.one("NetworkPolicy", "trading-system-allow-dns")["spec"]["egress"]
    assert [(port["port"], port["protocol"]) for port in dns[0]["ports"]] == [(53, "UDP"), (53, "TCP")]
    assert dns[0]["to"][0]["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}


def test_service_is_a_deployment_with_all_that_belongs_to_it(record: Record) -> None:
    made = record(lambda: Service("gateway", replace(SERVICE, node_port=30080)))
    assert made.kinds() == ["Deployment", "PodDisruptionBudget", "Service", "Service", "ServiceAccount"]
    spec = made.one("Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    assert spec["template"]["spec"]["containers"][0]["args"] == ["run", "gateway"]
    metrics = made.one("Service", "gateway-metrics")
    assert metrics["metadata"]["labels"]["app.kubernetes.io/name"] == "gateway"
    assert metrics["spec"]["type"] == "ClusterIP"
    assert [port["name"] for port in metrics["spec"]["ports"]] == ["metrics"]
    service = made.one("Service", "gateway")["spec"]
    assert service["type"] == "NodePort"
    assert service["ports"] == [
        {"name": "http", "port": 8081, "targetPort": "http", "protocol": "TCP", "nodePort": 30080}
    ]
    assert made.one("PodDisruptionBudget")["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert made.one("ServiceAccount")["automountServiceAccountToken"] is False


def test_a_role_with_a_pool_runs_on_its_nodes_alone(record: Record) -> None:
    made = record(lambda: Service("gateway", replace(SERVICE, pool=Pool("dedicated", "performance"))))
    pod = made.one("Deployment")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"dedicated": "performance"}
    assert pod["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "performance", "effect": "NoSchedule"}
    ]


def test_a_role_that_leads_has_the_address_of_its_pod(record: Record) -> None:
    made = record(lambda: Service("engine", replace(SERVICE, role=ROLES["matching-engine"])))
    variables = made.one("Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert variables[:2] == [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
        {"name": "APP_ADVERTISED_ADDRESS", "value": "http://$(POD_IP):8089"},
    ]


def test_replicas_are_left_to_the_autoscaler(record: Record) -> None:
    made = record(lambda: Service("gateway", replace(SERVICE, replicas=None)))
    assert "replicas" not in made.one("Deployment")["spec"]


def test_a_successor_is_ready_before_a_replica_ends(record: Record) -> None:
    made = record(
        lambda: Service("price-collector", replace(SERVICE, role=ROLES["price-collector"], replicas=2))
    )
    strategy = made.one("Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_a_role_gets_rights_only_with_rules(record: Record) -> None:
    rule: Any = {"api_groups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "update"]}
    made = record(lambda: Service("gateway", replace(SERVICE, rules=[rule])))
    assert made.kinds().count("Role") == made.kinds().count("RoleBinding") == 1
    assert made.one("Role")["rules"] == [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "update"]}
    ]
    assert made.one("Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True


def test_a_task_cannot_be_a_service(record: Record) -> None:
    with pytest.raises(ValueError, match="role 'migrate' has no port; run it as a Task"):
        record(lambda: Service("migrate", replace(SERVICE, role=ROLES["migrate"])))


def test_grace_is_longer_than_pre_stop_and_drain(record: Record) -> None:
    made = record(lambda: Service("price-service", replace(SERVICE, role=ROLES["price-service"])))
    pod = made.one("Deployment")["spec"]["template"]["spec"]
    pre_stop = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pre_stop == 5
    assert pod["terminationGracePeriodSeconds"] > pre_stop + ROLES["price-service"].drain_seconds


def test_network_policy_names_each_flow(record: Record) -> None:
    args = NetworkPolicyArgs(
        namespace="trading-system",
        ingress=[Allow(Network("10.0.0.0/8"), 8081)],
        egress=[Allow(Pods("trading-data", "redis"), 6379)],
    )
    spec = record(lambda: NetworkPolicy("gateway", args)).one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == [
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 8081, "protocol": "TCP"}]}
    ]
    peer = spec["egress"][0]["to"][0]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "trading-data"}
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "redis"}


def test_network_policy_without_flows_closes_both_directions(record: Record) -> None:
    spec = record(lambda: NetworkPolicy("x", NetworkPolicyArgs(namespace="n"))).one("NetworkPolicy")["spec"]
    assert "ingress" not in spec
    assert "egress" not in spec
    assert spec["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize(
    ("build", "port", "path"),
    [
        (
            lambda: Postgres("server", PostgresArgs(service=DATA, secret="s", secret_key="password")),
            5432,
            "/var/lib/postgresql/data",
        ),
        (
            lambda: Redis(
                "server", RedisArgs(service=DATA, secret="s", secret_key="password", max_memory_bytes=9)
            ),
            6379,
            "/data",
        ),
        (lambda: Kafka("server", KafkaArgs(service=DATA, heap_bytes=384 * 2**20)), 9092, "/var/lib/kafka"),
    ],
    ids=["postgres", "redis", "kafka"],
)
def test_data_services_keep_their_data(
    record: Record, build: Callable[[], object], port: int, path: str
) -> None:
    made = record(build)
    assert made.kinds() == ["PodDisruptionBudget", "Service", "Service", "ServiceAccount", "StatefulSet"]
    spec = made.one("StatefulSet")["spec"]
    claim = spec["volumeClaimTemplates"][0]
    assert claim["spec"]["storageClassName"] == "local-path"
    assert claim["spec"]["resources"] == {"requests": {"storage": "2Gi"}}
    mounts = spec["template"]["spec"]["containers"][0]["volumeMounts"]
    assert {"name": claim["metadata"]["name"], "mountPath": path} in mounts
    assert made.one("Service", "server")["spec"]["ports"][0]["port"] == port
    headless = made.one("Service", "server-headless")["spec"]
    assert headless["clusterIP"] == "None"
    assert spec["serviceName"] == "server-headless"


def test_urls_carry_no_password(record: Record) -> None:
    urls: list[str] = []

    def build() -> None:
        urls.append(Postgres("postgresql", PostgresArgs(service=DATA, secret="s", secret_key="password")).url)
        redis = RedisArgs(service=DATA, secret="s", secret_key="password", max_memory_bytes=1)
        urls.append(Redis("redis", redis).url)
        urls.append(Kafka("kafka", KafkaArgs(service=DATA, heap_bytes=2**28)).url)

    record(build)
    assert urls == [
        "postgresql+asyncpg://trading@postgresql.trading-data.svc.cluster.local:5432/trading",
        "redis://redis.trading-data.svc.cluster.local:6379/0",
        "kafka://kafka.trading-data.svc.cluster.local:9092",
    ]


def test_a_database_that_recovers_is_not_restarted(record: Record) -> None:
    args = PostgresArgs(service=DATA, secret="s", secret_key="password")
    pod = record(lambda: Postgres("postgresql", args)).one("StatefulSet")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["livenessProbe"]["tcpSocket"] == {"port": "server"}
    assert container["readinessProbe"]["exec"]["command"][0] == "pg_isready"


def test_redis_password_is_on_no_command_line(record: Record) -> None:
    args = RedisArgs(service=DATA, secret="s", secret_key="password", max_memory_bytes=1)
    container = record(lambda: Redis("redis", args)).one("StatefulSet")["spec"]["template"]["spec"][
        "containers"
    ][0]
    command = " ".join(container["readinessProbe"]["exec"]["command"])
    assert 'REDISCLI_AUTH="$(cat /run/secrets/tradestack/password)"' in command
    assert "-a " not in command


def test_task_is_a_job_named_by_its_revision(record: Record) -> None:
    made = record(lambda: Task("migrate", TASK))
    assert made.kinds() == ["Job", "ServiceAccount"]
    job = made.one("Job")
    assert job["metadata"]["name"] == "migrate-abc"
    assert "ttlSecondsAfterFinished" not in job["spec"]
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["initContainers"][0]["args"] == ["wait", "postgresql:5432"]
    assert "livenessProbe" not in pod["containers"][0]


def test_scheduled_task_never_runs_twice_at_once(record: Record) -> None:
    spec = record(lambda: ScheduledTask("report", ScheduledTaskArgs(TASK, "*/30 * * * *"))).one("CronJob")[
        "spec"
    ]
    assert spec["schedule"] == "*/30 * * * *"
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["timeZone"] == "Etc/UTC"


def test_a_password_reaches_every_place_that_needs_it(record: Record) -> None:
    places = (
        SecretKey("trading-data", "postgresql", "password"),
        SecretKey("trading-system", "app", "app_password"),
    )
    made = record(lambda: Credentials("credentials", CredentialsArgs({"database": Password(places)})))
    assert made.kinds() == ["RandomPassword", "Secret", "Secret"]
    assert made.one("RandomPassword")["length"] == 32
    for name, key in (("trading-data-postgresql", "password"), ("trading-system-app", "app_password")):
        values = made.one("Secret", name)["stringData"]
        assert rpc.is_rpc_secret(values)
        assert rpc.unwrap_rpc_secret(values) == {key: "generated"}


def test_an_invoke_fails_the_test(record: Record) -> None:
    def build() -> object:
        options = pulumi.InvokeOptions(version=pulumi_kubernetes.__dict__.get("__version__"))
        return pulumi.runtime.invoke("aws:index/getRegion:getRegion", {}, options)

    with pytest.raises(AssertionError, match="no component may call aws:index/getRegion:getRegion"):
        record(build)
