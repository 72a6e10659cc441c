"""The door of the cluster: what Envoy Gateway is told, against Pulumi's mocks."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.roles import Resources
from components.kubernetes.edge import Backend, Edge, EdgeArgs, Replicas
from components.kubernetes.edge_binding import Certificate, CertificateArgs
from components.kubernetes.edge_policies import Limits, duration

Record = Callable[[Callable[[], object]], Any]
GROUP = "gateway.networking.k8s.io"

LOCAL = EdgeArgs(
    namespace="trading-system",
    backends={
        "api": Backend("gateway", 8081, "/api"),
        "stream": Backend("price-service", 8083, "/ws", sticky=True),
        "registry": Backend("gateway", 8081, "/registry", internal=True),
        "web": Backend("frontend", 3000, "/"),
    },
    limits=Limits(requests_per_second=100, total_connections=20_000, websocket_seconds=3600),
    resources=Resources("100m", "2", "128Mi", "1Gi"),
    replicas=Replicas(1, 1),
    internal_networks=("10.97.0.0/16",),
    certificate_namespace="envoy-gateway-system",
    image="localhost/tradestack/envoy:1",
    node_ports={"http": 30080, "https": 30443},
    origins=("https://trading.example.com",),
)
CLOUD = replace(
    LOCAL,
    certificate_namespace=None,
    image=None,
    node_ports=None,
    replicas=Replicas(2, 6),
    hops=1,
    idle_seconds=4100,
)


def test_each_path_leads_to_its_role(record: Record) -> None:
    made = record(lambda: Edge("edge", LOCAL))
    routes = {}
    for name in ("api", "stream", "registry", "web"):
        spec = made.one("HTTPRoute", f"edge-{name}-httproute")["spec"]
        assert spec["parentRefs"] == [{"group": GROUP, "kind": "Gateway", "name": "edge"}]
        (rule,) = spec["rules"]
        (match,), (backend,) = rule["matches"], rule["backendRefs"]
        routes[match["path"]["value"]] = (backend["name"], backend["port"])
    assert routes == {
        "/api": ("gateway", 8081),
        "/ws": ("price-service", 8083),
        "/registry": ("gateway", 8081),
        "/": ("frontend", 3000),
    }


def test_probes_and_metrics_are_not_found(record: Record) -> None:
    made = record(lambda: Edge("edge", LOCAL))
    (rule,) = made.one("HTTPRoute", "edge-hidden-httproute")["spec"]["rules"]
    assert "backendRefs" not in rule
    paths = {match["path"]["value"] for match in rule["matches"]}
    assert {"/metrics", "/readyz", "/livez", "/internal"} <= paths
    assert rule["filters"][0]["extensionRef"]["name"] == "edge-hidden"
    answer = made.one("HTTPRouteFilter")["spec"]["directResponse"]
    assert answer["statusCode"] == json.loads(answer["body"]["inline"])["status"] == 404


def test_prices_stick_to_one_pod_by_the_cookie_of_two_days(record: Record) -> None:
    made = record(lambda: Edge("edge", LOCAL))
    spec = made.one("BackendTrafficPolicy", "edge-stream-backendtrafficpolicy")["spec"]
    assert spec["loadBalancer"]["consistentHash"]["cookie"] == {
        "name": "TRADING_AFFINITY",
        "ttl": "48h",
        "attributes": {"SameSite": "Strict", "Path": "/"},
    }
    assert spec["timeout"]["http"] == {"requestTimeout": "0s", "streamIdleTimeout": "1h"}
    # Envoy's default of 1024 would be the end of all further WebSockets.
    assert spec["circuitBreaker"]["maxConnections"] == 20_000
    assert spec["circuitBreaker"]["maxParallelRequests"] == 20_000
    assert made.one("BackendTrafficPolicy", "edge-api-backendtrafficpolicy")["spec"]["loadBalancer"] == {
        "type": "LeastRequest"
    }
    secure = record(lambda: Edge("edge", CLOUD)).one(
        "BackendTrafficPolicy", "edge-stream-backendtrafficpolicy"
    )["spec"]
    assert "Secure" in secure["loadBalancer"]["consistentHash"]["cookie"]["attributes"]


@pytest.mark.parametrize("route", ["api", "stream", "registry", "web"])
def test_each_address_has_its_own_limit_on_each_route(record: Record, route: str) -> None:
    made = record(lambda: Edge("edge", LOCAL))
    policy = made.one("BackendTrafficPolicy", f"edge-{route}-backendtrafficpolicy")["spec"]
    assert policy["targetRefs"] == [{"group": GROUP, "kind": "HTTPRoute", "name": f"edge-{route}"}]
    (rule,) = policy["rateLimit"]["local"]["rules"]
    assert rule["limit"] == {"requests": 100, "unit": "Second"}
    every_address = {"type": "Distinct", "value": "0.0.0.0/0", "invert": False}
    assert rule["clientSelectors"] == [{"sourceCIDR": every_address}]


@pytest.mark.parametrize("route", ["api", "stream", "web"])
def test_nothing_that_may_have_been_done_is_tried_again(record: Record, route: str) -> None:
    made = record(lambda: Edge("edge", LOCAL))
    retry = made.one("BackendTrafficPolicy", f"edge-{route}-backendtrafficpolicy")["spec"]["retry"]
    safe = {"connect-failure", "refused-stream", "reset-before-request"}
    assert set(retry["retryOn"]["triggers"]) <= safe
    assert "httpStatusCodes" not in retry["retryOn"]


def test_refusals_are_problem_documents(record: Record) -> None:
    made = record(lambda: Edge("edge", LOCAL))
    found = made.one("BackendTrafficPolicy", "edge-api-backendtrafficpolicy")["spec"]["responseOverride"]
    told = {}
    for item in found:
        assert item["source"] == "Local", "what the app answers must pass unchanged"
        (code,) = item["match"]["statusCodes"]
        body = json.loads(item["response"]["body"]["inline"])
        assert body["status"] == code["value"]
        assert item["response"]["contentType"] == "application/problem+json"
        told[code["value"]] = item["response"]
    assert {403, 408, 429, 503, 504} <= told.keys()
    assert told[429]["header"]["set"] == [{"name": "Retry-After", "value": "1"}]


def test_old_tls_and_half_sent_requests_are_refused(record: Record) -> None:
    made = record(lambda: Edge("edge", LOCAL))
    plain = made.one("ClientTrafficPolicy", "edge-http-clienttrafficpolicy")["spec"]
    secure = made.one("ClientTrafficPolicy", "edge-https-clienttrafficpolicy")["spec"]
    assert secure["tls"]["minVersion"] == "1.2"
    assert "tls" not in plain
    assert [plain["targetRefs"][0]["sectionName"], secure["targetRefs"][0]["sectionName"]] == [
        "http",
        "https",
    ]
    for spec in (plain, secure):
        assert spec["timeout"]["http"]["requestHeadersReceivedTimeout"] == "10s"
        assert spec["timeout"]["http"]["requestReceivedTimeout"] == "30s"
        assert spec["connection"]["connectionLimit"] == {"value": 20_000}
        assert spec["path"]["escapedSlashesAction"] == "RejectRequest"
        assert spec["headers"]["withUnderscoresAction"] == "RejectRequest"
    assert "lateResponseHeaders" not in plain["headers"]
    header = secure["headers"]["lateResponseHeaders"]["set"]
    assert header == [{"name": "Strict-Transport-Security", "value": "max-age=31536000"}]


def test_addresses_of_clients_are_not_taken_from_clients(record: Record) -> None:
    local = record(lambda: Edge("edge", LOCAL)).one("ClientTrafficPolicy", "edge-https-clienttrafficpolicy")
    assert "clientIPDetection" not in local["spec"]
    removed = local["spec"]["headers"]["earlyRequestHeaders"]
    assert {"x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded"} <= set(removed["remove"])
    assert removed["removeOnMatch"] == [{"type": "Prefix", "value": "x-envoy-"}]
    cloud = record(lambda: Edge("edge", CLOUD)).one("ClientTrafficPolicy")["spec"]
    assert cloud["clientIPDetection"] == {"xForwardedFor": {"numTrustedHops": 1}}
    assert "x-forwarded-for" not in cloud["headers"]["earlyRequestHeaders"]["remove"]


def test_pages_of_other_origins_and_the_registry_are_guarded(record: Record) -> None:
    made = record(lambda: Edge("edge", LOCAL))
    cors = made.one("SecurityPolicy", "edge-securitypolicy")["spec"]["cors"]
    assert cors["allowOrigins"] == ["https://trading.example.com"]
    assert cors["allowMethods"] == ["GET", "POST", "PUT", "DELETE", "OPTIONS"]
    wanted = "DNT,X-CustomHeader,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control"
    assert {*wanted.split(","), "Content-Type", "Authorization"} <= set(cors["allowHeaders"])
    guard = made.one("SecurityPolicy", "edge-registry-securitypolicy")["spec"]
    assert guard["targetRefs"] == [{"group": GROUP, "kind": "HTTPRoute", "name": "edge-registry"}]
    assert guard["authorization"]["defaultAction"] == "Deny"
    (rule,) = guard["authorization"]["rules"]
    assert (rule["action"], rule["principal"]) == ("Allow", {"clientCIDRs": ["10.97.0.0/16"]})


def test_only_allowed_clients_may_ask(record: Record) -> None:
    narrow = replace(LOCAL, clients=("192.0.2.0/24",), origins=())
    spec = record(lambda: Edge("edge", narrow)).one("SecurityPolicy", "edge-securitypolicy")["spec"]
    assert "cors" not in spec
    assert spec["authorization"]["rules"][0]["principal"] == {"clientCIDRs": ["192.0.2.0/24"]}
    open_to_all = record(lambda: Edge("edge", replace(LOCAL, origins=())))
    assert open_to_all.kinds().count("SecurityPolicy") == 1, "that of the registry"


def test_node_ports_keep_the_address_of_the_client(record: Record) -> None:
    made = record(lambda: Edge("edge", LOCAL))
    service = made.one("EnvoyProxy")["spec"]["provider"]["kubernetes"]["envoyService"]
    assert (service["name"], service["type"], service["externalTrafficPolicy"]) == (
        "edge",
        "NodePort",
        "Local",
    )
    ports = service["patch"]["value"]["spec"]["ports"]
    assert {port["port"]: port["nodePort"] for port in ports} == {80: 30080, 443: 30443}
    gateway = made.one("Gateway")
    assert gateway["metadata"]["annotations"] == {"pulumi.com/waitFor": "condition=Programmed"}
    listeners = {item["name"]: item for item in gateway["spec"]["listeners"]}
    assert {name: item["port"] for name, item in listeners.items()} == {"http": 80, "https": 443}
    assert listeners["https"]["tls"]["certificateRefs"] == [
        {"group": "", "kind": "Secret", "name": "edge-certificate", "namespace": "envoy-gateway-system"}
    ]
    parameters = made.one("GatewayClass")["spec"]["parametersRef"]
    assert (parameters["kind"], parameters["name"]) == ("EnvoyProxy", "edge")


def test_behind_a_load_balancer_there_is_https_alone_and_more_than_one_envoy(record: Record) -> None:
    made = record(lambda: Edge("edge", CLOUD))
    assert [item["name"] for item in made.one("Gateway")["spec"]["listeners"]] == ["https"]
    kubernetes = made.one("EnvoyProxy")["spec"]["provider"]["kubernetes"]
    assert kubernetes["envoyService"] == {"name": "edge", "type": "ClusterIP"}
    assert (kubernetes["envoyHpa"]["minReplicas"], kubernetes["envoyHpa"]["maxReplicas"]) == (2, 6)
    assert "replicas" not in kubernetes["envoyDeployment"], "the autoscaler owns them"
    # Two health checks of the load balancer, and some time to register.
    assert kubernetes["envoyDeployment"]["patch"]["value"] == {"spec": {"minReadySeconds": 30}}
    assert kubernetes["envoyPDB"] == {"name": "edge", "maxUnavailable": 1}


def test_envoy_is_bounded_drained_and_logs_no_queries(record: Record) -> None:
    spec = record(lambda: Edge("edge", LOCAL)).one("EnvoyProxy")["spec"]
    deployment = spec["provider"]["kubernetes"]["envoyDeployment"]
    assert deployment["replicas"] == 1
    assert deployment["container"]["image"] == "localhost/tradestack/envoy:1"
    assert deployment["container"]["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    assert deployment["pod"]["securityContext"]["runAsNonRoot"] is True
    assert spec["shutdown"] == {
        "healthCheckFailureDelay": "25s",
        "drainTimeout": "1m",
        "minDrainDuration": "10s",
    }
    (bound,) = spec["bootstrap"]["jsonPatches"]
    assert bound["path"].endswith("/max_active_downstream_connections")
    assert bound["value"] == 20_000
    (log,) = spec["telemetry"]["accessLog"]["settings"]
    assert log["format"]["type"] == "JSON"
    assert log["sinks"] == [{"type": "File", "file": {"path": "/dev/stdout"}}]
    assert not any("(:PATH)" in value or "AUTHORIZATION" in value for value in log["format"]["json"].values())


def test_the_certificate_of_the_domain_has_a_new_key_each_time(record: Record) -> None:
    args = CertificateArgs("trading-system", ("trading.example.com",), "lets-encrypt")
    made = record(lambda: Certificate("edge-certificate", args)).one("Certificate")
    assert made["spec"]["secretName"] == "edge-certificate"
    assert made["spec"]["dnsNames"] == ["trading.example.com"]
    assert made["spec"]["issuerRef"]["name"] == "lets-encrypt"
    assert made["spec"]["privateKey"]["rotationPolicy"] == "Always"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"node_ports": {"http": 30080}}, "one for each of http, https"),
        ({"replicas": Replicas(3, 2)}, "at least 1, in rising order"),
        ({"internal_networks": ()}, "at least one, or nobody reaches what is internal"),
        ({"backends": {"api": Backend("gateway", 8081, "api")}}, "must begin with /"),
        (
            {"backends": {"a": Backend("gateway", 8081, "/"), "b": Backend("frontend", 3000, "/")}},
            "lead to one backend",
        ),
    ],
)
def test_impossible_arguments_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Edge("edge", replace(LOCAL, **change))


@pytest.mark.parametrize(("seconds", "text"), [(172_800, "48h"), (3600, "1h"), (4100, "4100s"), (60, "1m")])
def test_durations_are_written_as_the_gateway_api_takes_them(seconds: int, text: str) -> None:
    assert duration(seconds) == text
