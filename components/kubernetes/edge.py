"""The one door of the cluster: Envoy, run by Envoy Gateway, in front of the roles that the public reaches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pulumi import ComponentResource, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from app.roles import Resources
from components.kubernetes import edge_policies as policies
from components.kubernetes.edge_policies import Limits
from components.kubernetes.meta import labels

NAMESPACE = "envoy-gateway-system"
"""Namespace of Envoy Gateway; Envoy's pods and its Service are there too."""
PODS = "envoy"
"""Name label of Envoy's pods, which Envoy Gateway gives them."""
CERTIFICATE = "edge-certificate"
"""Secret with the certificate and the key."""
SERVICE = "edge"
"""Name of Envoy's Service and Deployment."""
HTTPS_PORT, HTTP_PORT = 443, 80
"""Ports of the Service."""
HTTPS_TARGET = 10443
"""Port of Envoy's pods for HTTPS: Envoy Gateway adds 10000 to a privileged port."""
METRICS_PORT, METRICS_PATH = 19001, "/stats/prometheus"
"""Where Envoy's pods tell their metrics."""

_GATEWAY, _ENVOY = "gateway.networking.k8s.io", "gateway.envoyproxy.io"
_CONTROLLER = f"{_ENVOY}/gatewayclass-controller"
_LISTENERS = {"http": HTTP_PORT, "https": HTTPS_PORT}
_RUN_AS = 65532
_SUCCESSOR_SECONDS = 25
"""Envoy Gateway's startup probe looks every 10 s: a new Envoy is ready 12 s or 22 s after it was made."""
_REGISTERED_SECONDS = 30
"""After it a load balancer has looked twice at a new Envoy, every 10 s, and sends it requests; until then an
update must not take the next old one away."""
_LOG = {
    "time": "%START_TIME%",
    "event": "request",
    "method": "%REQ(:METHOD)%",
    # Without the query, in which clients put what should not be kept.
    "path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "why": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "milliseconds": "%DURATION%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "upstream": "%UPSTREAM_HOST%",
    "route": "%ROUTE_NAME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "agent": "%REQ(USER-AGENT)%",
}


@dataclass(frozen=True)
class Backend:
    """A role that the public reaches, by the path that leads to it."""

    role: str
    """Name of its Service."""
    port: int
    """Port of its Service."""
    path: str
    """Prefix of the paths, such as `/api`; the longest that fits wins."""
    sticky: bool = False
    """A client's requests all reach one pod, and answers may last as long as a WebSocket."""
    internal: bool = False
    """Only for clients in the cluster's own networks; all others are answered 403."""


@dataclass(frozen=True)
class Replicas:
    """How many Envoys there are."""

    minimum: int
    maximum: int
    """Equal to `minimum` for a fixed number."""


@dataclass(frozen=True)
class EdgeArgs:
    """Where the platform answers inside one cluster, for whom, and how much of it."""

    namespace: str
    """Namespace of the backends, and of the Gateway with everything that belongs to it."""
    backends: Mapping[str, Backend]
    """Backends by the names of their routes."""
    limits: Limits
    """What clients may ask for."""
    resources: Resources
    """Requests and limits of one Envoy; it stops taking requests before it has used up its memory."""
    replicas: Replicas
    """How many Envoys there are."""
    internal_networks: Sequence[str]
    """Networks of the cluster's pods and nodes, for which `internal` backends are."""
    certificate_namespace: str | None = None
    """Namespace of the Secret `CERTIFICATE`, where it is not `namespace`; it needs a ReferenceGrant."""
    image: str | None = None
    """Image of Envoy; by default the one that Envoy Gateway was built for."""
    node_ports: Mapping[str, int] | None = None
    """Ports opened on every node, by listener (`http`, `https`); None where a load balancer reaches the pods,
    by HTTPS only."""
    clients: Sequence[str] = ("0.0.0.0/0",)
    """Networks that may ask; everyone else is answered 403."""
    origins: Sequence[str] = ()
    """Origins whose web pages may use the API, such as `https://trading.example.com`."""
    hops: int = 0
    """Our own proxies in front of Envoy, each of which adds to X-Forwarded-For."""
    idle_seconds: int = 75
    """Quiet seconds between two requests of a connection; above those of a load balancer in front."""
    hsts_seconds: int = 31_536_000
    """For how long browsers that came by HTTPS come by nothing else."""
    drain_seconds: int = 60
    """For how long an Envoy that ends lets requests and WebSockets go on."""


class Edge(ComponentResource):
    """Gateway, routes and policies; the component's name is that of the Gateway and of its class.

    A route comes after the policies that guard it and goes before them, so that it never is open to all.
    """

    def __init__(self, name: str, args: EdgeArgs, opts: ResourceOptions | None = None) -> None:
        _check(args)
        super().__init__("tradestack:kubernetes:Edge", name, None, opts)
        self._name, self._args = name, args
        proxy = self._make("EnvoyProxy", name, _proxy(args))
        parameters = {"group": _ENVOY, "kind": "EnvoyProxy", "name": name, "namespace": args.namespace}
        gateway_class = self._make(
            "GatewayClass", name, {"controllerName": _CONTROLLER, "parametersRef": parameters}, after=[proxy]
        )
        gateway = self._make("Gateway", name, self._gateway(), after=[gateway_class], wait="Programmed")
        guarded = [gateway, *self._guard_clients(gateway)]
        for route, backend in args.backends.items():
            self._make_route(f"{name}-{route}", backend, guarded)
        self._hide(f"{name}-hidden", guarded)
        self.register_outputs({})

    def _make(
        self,
        kind: str,
        name: str,
        spec: Mapping[str, Any],
        *,
        after: Sequence[CustomResource] = (),
        wait: str | None = None,
    ) -> CustomResource:
        group, version = (_GATEWAY, "v1") if kind in _STANDARD else (_ENVOY, "v1alpha1")
        annotations = {"pulumi.com/waitFor": f"condition={wait}"} if wait else None
        meta = ObjectMetaArgs(
            name=name,
            namespace=None if kind == "GatewayClass" else self._args.namespace,
            labels=labels(self._name),
            annotations=annotations,
        )
        return CustomResource(
            f"{name}-{kind.lower()}",
            api_version=f"{group}/{version}",
            kind=kind,
            metadata=meta,
            spec=dict(spec),
            opts=ResourceOptions(parent=self, depends_on=list(after)),
        )

    def _gateway(self) -> dict[str, Any]:
        listeners: list[dict[str, Any]] = []
        for listener in _listeners(self._args):
            item: dict[str, Any] = {
                "name": listener,
                "port": _LISTENERS[listener],
                "protocol": listener.upper(),
                "allowedRoutes": {"namespaces": {"from": "Same"}},
            }
            if listener == "https":
                reference = {"group": "", "kind": "Secret", "name": CERTIFICATE}
                if self._args.certificate_namespace is not None:
                    reference["namespace"] = self._args.certificate_namespace
                item["tls"] = {"mode": "Terminate", "certificateRefs": [reference]}
            listeners.append(item)
        return {"gatewayClassName": self._name, "listeners": listeners}

    def _guard_clients(self, gateway: CustomResource) -> list[CustomResource]:
        args, made = self._args, []
        for listener in _listeners(args):
            spec = policies.client_policy(
                args.limits,
                hops=args.hops,
                idle_seconds=args.idle_seconds,
                hsts_seconds=args.hsts_seconds if listener == "https" else None,
            )
            target = {**_target("Gateway", self._name), "sectionName": listener}
            name = f"{self._name}-{listener}"
            policy = {"targetRefs": [target], **spec}
            made.append(self._make("ClientTrafficPolicy", name, policy, after=[gateway]))
        checks = policies.security_policy(args.origins, args.clients)
        if checks is not None:
            target = _target("Gateway", self._name)
            policy = {"targetRefs": [target], **checks}
            made.append(self._make("SecurityPolicy", self._name, policy, after=[gateway]))
        return made

    def _make_route(self, name: str, backend: Backend, guarded: Sequence[CustomResource]) -> None:
        rule = {
            "matches": [{"path": {"type": "PathPrefix", "value": backend.path}}],
            "backendRefs": [
                {"group": "", "kind": "Service", "name": backend.role, "port": backend.port, "weight": 1}
            ],
        }
        traffic = policies.backend_policy(
            self._args.limits, sticky=backend.sticky, secure=self._args.node_ports is None
        )
        targets = {"targetRefs": [_target("HTTPRoute", name)]}
        own = [self._make("BackendTrafficPolicy", name, {**targets, **traffic}, after=guarded)]
        if backend.internal:
            guard = {"authorization": policies.only_from(self._args.internal_networks)}
            own.append(self._make("SecurityPolicy", name, {**targets, **guard}, after=guarded))
        self._make("HTTPRoute", name, self._route([rule]), after=[*guarded, *own])

    def _hide(self, name: str, guarded: Sequence[CustomResource]) -> None:
        """Answer 404 on the paths that are for probes and monitoring."""
        answer = self._make("HTTPRouteFilter", name, policies.not_found())
        reference = {"group": _ENVOY, "kind": "HTTPRouteFilter", "name": name}
        rule = {
            "matches": [{"path": {"type": "PathPrefix", "value": path}} for path in policies.HIDDEN],
            "filters": [{"type": "ExtensionRef", "extensionRef": reference}],
        }
        self._make("HTTPRoute", name, self._route([rule]), after=[*guarded, answer])

    def _route(self, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        parent = {"group": _GATEWAY, "kind": "Gateway", "name": self._name}
        return {"parentRefs": [parent], "rules": list(rules)}


_STANDARD = frozenset({"Gateway", "GatewayClass", "HTTPRoute"})


def _target(kind: str, name: str) -> dict[str, Any]:
    return {"group": _GATEWAY, "kind": kind, "name": name}


def _listeners(args: EdgeArgs) -> tuple[str, ...]:
    return tuple(_LISTENERS) if args.node_ports is not None else ("https",)


def _proxy(args: EdgeArgs) -> dict[str, Any]:
    """Spec of the EnvoyProxy: how Envoy is run, logs, ends."""
    container: dict[str, Any] = {
        "resources": {
            "requests": {"cpu": args.resources.cpu_request, "memory": args.resources.memory_request},
            "limits": {"cpu": args.resources.cpu_limit, "memory": args.resources.memory_limit},
        },
    }
    if args.image is not None:
        container["image"] = args.image
    deployment: dict[str, Any] = {
        "name": SERVICE,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "pod": {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _RUN_AS,
                "runAsGroup": _RUN_AS,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": key,
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": PODS}},
                }
                for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
            ],
        },
        "container": container,
    }
    if args.node_ports is None:
        patch = {"spec": {"minReadySeconds": _REGISTERED_SECONDS}}
        deployment["patch"] = {"type": "StrategicMerge", "value": patch}
    kubernetes: dict[str, Any] = {
        "envoyDeployment": deployment,
        "envoyService": _service(args),
        # Above one replica an eviction waits for the next Envoy; a single one must not block a node's drain.
        "envoyPDB": {"name": SERVICE, "maxUnavailable": 1},
    }
    if args.replicas.minimum == args.replicas.maximum:
        deployment["replicas"] = args.replicas.minimum
    else:
        cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
        kubernetes["envoyHpa"] = {
            "name": SERVICE,
            "minReplicas": args.replicas.minimum,
            "maxReplicas": args.replicas.maximum,
            "metrics": [{"type": "Resource", "resource": cpu}],
            # Each that goes closes its WebSockets.
            "behavior": {
                "scaleDown": {
                    "stabilizationWindowSeconds": 300,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                }
            },
        }
    log = {
        "format": {"type": "JSON", "json": _LOG},
        "sinks": [{"type": "File", "file": {"path": "/dev/stdout"}}],
    }
    return {
        "provider": {"type": "Kubernetes", "kubernetes": kubernetes},
        "concurrency": 2,
        "bootstrap": {"type": "JSONPatch", "jsonPatches": [_most_connections(args.limits.total_connections)]},
        "logging": {"level": {"default": "warn"}},
        "telemetry": {
            "accessLog": {"settings": [log]},
            "metrics": {"prometheus": {"disable": False}},
        },
        "shutdown": {
            # A single Envoy that is evicted serves on until the next one has started.
            "healthCheckFailureDelay": f"{_SUCCESSOR_SECONDS}s",
            "drainTimeout": policies.duration(args.drain_seconds),
            "minDrainDuration": "10s",
        },
    }


def _most_connections(total: int) -> dict[str, Any]:
    """Bounds the connections of all listeners together, where Envoy Gateway would let in 50,000.

    Envoy 1.40 ends with a segmentation fault when it has no file descriptor left for an upstream.
    """
    monitor = "/overload_manager/resource_monitors/0/typed_config"
    return {"op": "replace", "path": f"{monitor}/max_active_downstream_connections", "value": total}


def _service(args: EdgeArgs) -> dict[str, Any]:
    if args.node_ports is None:
        return {"name": SERVICE, "type": "ClusterIP"}
    ports = [{"port": _LISTENERS[listener], "nodePort": port} for listener, port in args.node_ports.items()]
    # Local keeps the address of the client.
    return {
        "name": SERVICE,
        "type": "NodePort",
        "externalTrafficPolicy": "Local",
        "patch": {"type": "StrategicMerge", "value": {"spec": {"ports": ports}}},
    }


def _check(args: EdgeArgs) -> None:
    if args.node_ports is not None and set(args.node_ports) != set(_LISTENERS):
        raise ValueError(f"node ports {sorted(args.node_ports)}: one for each of {', '.join(_LISTENERS)}")
    if not 1 <= args.replicas.minimum <= args.replicas.maximum:
        raise ValueError(
            f"replicas {args.replicas.minimum} to {args.replicas.maximum}: at least 1, in rising order"
        )
    if not args.internal_networks:
        raise ValueError("internal networks: at least one, or nobody reaches what is internal")
    paths = [backend.path for backend in args.backends.values()]
    for path in paths:
        if not path.startswith("/") or paths.count(path) > 1:
            raise ValueError(f"path '{path}': must begin with / and lead to one backend")
