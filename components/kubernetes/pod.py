"""The pod template of every workload: one place for probes, drain, security and resources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pulumi import Input
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    EnvVarArgsDict,
    KeyToPathArgsDict,
    ObjectFieldSelectorArgsDict,
    PodSpecArgsDict,
    PodTemplateSpecArgsDict,
    ProbeArgsDict,
    ResourceRequirementsArgsDict,
    SecurityContextArgsDict,
    TopologySpreadConstraintArgsDict,
    VolumeArgsDict,
    VolumeMountArgsDict,
)

from app.roles import Resources
from components.kubernetes.meta import Environment, labels, selector
from components.skips import Skip

SECRETS_PATH = "/run/secrets/tradestack"
"""Folder in which a container finds its secrets, one file for each key."""

DISK_REQUEST, DISK_LIMIT = "64Mi", "512Mi"
"""Disk of the node that a container uses: its tmp and its logs until they are rotated; data has volumes."""

_USER = 10001
_TMP_SIZE = "64Mi"
_GRACE_MARGIN_SECONDS = 5
_SECRET_FILE_MODE = 0o440


@dataclass(frozen=True)
class Probes:
    """Three distinct probes: has it started, is it alive, can it take work."""

    startup: ProbeArgsDict
    """Holds the other two back until the process has started."""
    live: ProbeArgsDict
    """Restarts the container; never depends on other services."""
    ready: ProbeArgsDict
    """Takes the pod out of its Services."""


@dataclass(frozen=True)
class Pool:
    """Nodes that carry a label and a taint of this key and value: only pods that ask for them run there."""

    key: str
    value: str


@dataclass(frozen=True)
class PodArgs:
    """What distinguishes one workload's pods from another's."""

    name: str
    """Workload that the pods belong to; also the name of their ServiceAccount."""
    image: Input[str]
    """Image reference with a content hash or digest."""
    resources: Resources
    """Requests and limits of the container; those of the waiting init container too."""
    args: Sequence[str] = ()
    """Arguments of the image's entry point."""
    environment: Environment = field(default_factory=dict)
    """Variables of the container."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Variables that tell something about the pod, by the path of its field; `environment` may refer to them
    as `$(NAME)`."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Named TCP ports that the container listens on."""
    probes: Probes | None = None
    """None for tasks, whose end is their result."""
    waits: Sequence[Input[str]] = ()
    """`host:port` of services that must answer before the container starts."""
    secret: str | None = None
    """Secret whose keys are mounted as files below SECRETS_PATH."""
    secret_keys: Sequence[str] = ()
    """Keys of `secret` that this workload may read."""
    more_secrets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Keys of other Secrets that are mounted beside them, by the name of the Secret."""
    mounts: Mapping[str, str] = field(default_factory=dict)
    """Path of each volume claim template by its name."""
    pre_stop_seconds: int = 0
    """Time between leaving the Services and SIGTERM, in which clients learn of it."""
    drain_seconds: int = 10
    """Time after SIGTERM in which open work is finished."""
    restart_policy: str = "Always"
    """`Always` for servers, `Never` for tasks."""
    use_token: bool = False
    """Whether the ServiceAccount's token is mounted; only with rules of its own."""
    scrape_port: int | None = None
    """Port of /metrics, for Prometheus."""
    pool: Pool | None = None
    """Nodes that the pods run on; None for all that are not set apart."""


def pod_template(args: PodArgs) -> PodTemplateSpecArgsDict:
    """The pod template of a workload, for Deployments, StatefulSets, Jobs and CronJobs alike."""
    template: PodTemplateSpecArgsDict = {"metadata": {"labels": labels(args.name)}, "spec": _spec(args)}
    if args.scrape_port is not None:
        template["metadata"] = {"labels": labels(args.name), "annotations": _scraping(args.scrape_port)}
    return template


def http_probe(path: str, *, period: int, failures: int) -> ProbeArgsDict:
    """A probe of the port named `http`; `period` in seconds."""
    return {
        "http_get": {"path": path, "port": "http"},
        "period_seconds": period,
        "timeout_seconds": 2,
        "failure_threshold": failures,
    }


def command_probe(*command: str, period: int, failures: int) -> ProbeArgsDict:
    """A probe that runs a command in the container; `period` in seconds."""
    return {
        "exec_": {"command": list(command)},
        "period_seconds": period,
        "timeout_seconds": 5,
        "failure_threshold": failures,
    }


def port_probe(port: str, *, period: int, failures: int) -> ProbeArgsDict:
    """A probe that opens a connection to a named port; `period` in seconds."""
    return {
        "tcp_socket": {"port": port},
        "period_seconds": period,
        "timeout_seconds": 2,
        "failure_threshold": failures,
    }


def requirements(resources: Resources) -> ResourceRequirementsArgsDict:
    """Requests and limits of a container, with a share of the node's disk."""
    return {
        "requests": {
            "cpu": resources.cpu_request,
            "memory": resources.memory_request,
            "ephemeral-storage": DISK_REQUEST,
        },
        "limits": {
            "cpu": resources.cpu_limit,
            "memory": resources.memory_limit,
            "ephemeral-storage": DISK_LIMIT,
        },
    }


def _scraping(port: int) -> dict[str, str]:
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": "/metrics",
    }


def _spec(args: PodArgs) -> PodSpecArgsDict:
    spec: PodSpecArgsDict = {
        "service_account_name": args.name,
        "automount_service_account_token": args.use_token,
        # Variables for every Service of the namespace would make pods depend on the order of creation.
        "enable_service_links": False,
        "restart_policy": args.restart_policy,
        "termination_grace_period_seconds": args.pre_stop_seconds
        + args.drain_seconds
        + _GRACE_MARGIN_SECONDS,
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": _USER,
            "run_as_group": _USER,
            "fs_group": _USER,
            "fs_group_change_policy": "OnRootMismatch",
            "seccomp_profile": {"type": "RuntimeDefault"},
        },
        "topology_spread_constraints": [
            _spread(args.name, "topology.kubernetes.io/zone"),
            _spread(args.name, "kubernetes.io/hostname"),
        ],
        "containers": [_container(args)],
        "volumes": _volumes(args),
    }
    # Empty lists are left out everywhere: the API server drops them, and a refresh would call that drift.
    if args.waits:
        spec["init_containers"] = [_wait(args)]
    if args.pool is not None:
        spec["node_selector"] = {args.pool.key: args.pool.value}
        spec["tolerations"] = [
            {"key": args.pool.key, "operator": "Equal", "value": args.pool.value, "effect": "NoSchedule"}
        ]
    return spec


def _container(args: PodArgs) -> ContainerArgsDict:
    container: ContainerArgsDict = {
        **_base(args, args.name),
        "volume_mounts": _volume_mounts(args),
    }
    if args.args:
        container["args"] = list(args.args)
    if args.ports:
        container["ports"] = [
            {"name": name, "container_port": port, "protocol": "TCP"} for name, port in args.ports.items()
        ]
    if args.probes is not None:
        container["startup_probe"] = args.probes.startup
        container["liveness_probe"] = args.probes.live
        container["readiness_probe"] = args.probes.ready
    if args.pre_stop_seconds:
        container["lifecycle"] = {"pre_stop": {"sleep": {"seconds": args.pre_stop_seconds}}}
    return container


def _wait(args: PodArgs) -> ContainerArgsDict:
    """An init container of the same image that ends when every address in `waits` answers."""
    return {
        **_base(args, "wait"),
        "args": ["wait", *args.waits],
        "volume_mounts": [{"name": "tmp", "mount_path": "/tmp"}],  # noqa: S108 - the container's own
    }


def _base(args: PodArgs, name: str) -> ContainerArgsDict:
    return {
        "name": name,
        "image": args.image,
        "image_pull_policy": "IfNotPresent",
        "env": _variables(args),
        "resources": requirements(args.resources),
        "security_context": _security(),
    }


def _variables(args: PodArgs) -> list[EnvVarArgsDict]:
    told: list[EnvVarArgsDict] = [
        {"name": key, "value_from": {"field_ref": _field(path)}} for key, path in sorted(args.fields.items())
    ]
    given: list[EnvVarArgsDict] = [
        {"name": key, "value": value} for key, value in sorted(args.environment.items())
    ]
    # A variable can refer to those before it only.
    return told + given


def _field(path: str) -> ObjectFieldSelectorArgsDict:
    # The version as the API server completes it; left out, a refresh would call that drift.
    return {"api_version": "v1", "field_path": path}


def _security() -> SecurityContextArgsDict:
    return {
        "allow_privilege_escalation": False,
        "privileged": False,
        "read_only_root_filesystem": True,
        "run_as_non_root": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _spread(name: str, topology_key: str) -> TopologySpreadConstraintArgsDict:
    return {
        "max_skew": 1,
        "topology_key": topology_key,
        "when_unsatisfiable": "ScheduleAnyway",
        "label_selector": {"match_labels": selector(name)},
    }


def _volumes(args: PodArgs) -> list[VolumeArgsDict]:
    volumes: list[VolumeArgsDict] = [{"name": "tmp", "empty_dir": {"size_limit": _TMP_SIZE}}]
    if args.secret is not None and args.secret_keys:
        volumes.append(_secrets(args.secret, args))
    return volumes


def _secrets(secret: str, args: PodArgs) -> VolumeArgsDict:
    if not args.more_secrets:
        return {
            "name": "secrets",
            "secret": {
                "secret_name": secret,
                "default_mode": _SECRET_FILE_MODE,
                "items": _items(args.secret_keys),
            },
        }
    sources = {secret: args.secret_keys, **args.more_secrets}
    return {
        "name": "secrets",
        "projected": {
            "default_mode": _SECRET_FILE_MODE,
            "sources": [{"secret": {"name": name, "items": _items(keys)}} for name, keys in sources.items()],
        },
    }


def _items(keys: Sequence[str]) -> list[KeyToPathArgsDict]:
    return [{"key": key, "path": key} for key in sorted(keys)]


def _volume_mounts(args: PodArgs) -> list[VolumeMountArgsDict]:
    mounts: list[VolumeMountArgsDict] = [{"name": "tmp", "mount_path": "/tmp"}]  # noqa: S108 - the container's own
    if args.secret is not None and args.secret_keys:
        mounts.append({"name": "secrets", "mount_path": SECRETS_PATH, "read_only": True})
    mounts.extend({"name": name, "mount_path": path} for name, path in args.mounts.items())
    return mounts


_WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob")
_SAME_BYTES = "Images are named by digest or content hash, so that pulling again would bring the same bytes."
_HASHED = "Local images carry their content hash as tag; assertion TS053 demands a digest in cloud stacks."

SKIPS: tuple[Skip, ...] = tuple(
    Skip(check, kind, reason)
    for kind in _WORKLOADS
    for check, reason in (
        ("container-image-pull-policy", _SAME_BYTES),
        ("CKV_K8S_15", _SAME_BYTES),
        ("CKV_K8S_43", _HASHED),
    )
)
"""Findings that are accepted here."""
