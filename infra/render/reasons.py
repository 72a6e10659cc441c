"""Why a pod is not ready, and whether it can still become so."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PATIENCE_SECONDS = {
    "InvalidImageName": 0,
    "ErrImageNeverPull": 0,
    "ErrImagePull": 60,
    "ImagePullBackOff": 20,
    "CreateContainerConfigError": 30,
    "CreateContainerError": 30,
    "RunContainerError": 30,
    "Unschedulable": 60,
}
"""How long a pod may stay in a state before it is hopeless; other states are given the whole time."""

_HOPELESS_RESTARTS = 4
_QUIET = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True)
class Reason:
    """Why one pod is not ready."""

    pod: str
    namespace: str
    state: str
    """Kubernetes' word for it, such as `CrashLoopBackOff`."""
    message: str
    """The cluster's words; may be empty."""
    container: str | None = None
    """The container that it is about."""
    restarts: int = 0
    claims: tuple[str, ...] = ()
    """Volume claims that the pod cannot start without."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Same pod in the same state."""
        return self.namespace, self.pod, self.state

    @property
    def crashing(self) -> bool:
        """Whether the container ends again and again, so that its last words tell why."""
        return self.state in {"CrashLoopBackOff", "Error", "OOMKilled"}

    def hopeless(self, seconds: float) -> bool:
        """Whether waiting on makes no sense after `seconds` in this state."""
        if self.crashing:
            return self.restarts >= _HOPELESS_RESTARTS
        return seconds >= _PATIENCE_SECONDS.get(self.state, float("inf"))

    def __str__(self) -> str:
        about = f"pod {self.pod}" + (f", container {self.container}" if self.container else "")
        restarts = f" after {self.restarts} restarts" if self.restarts else ""
        return f"{about}: {self.state}{restarts}" + (f": {self.message}" if self.message else "")


def reasons(pod: Mapping[str, Any]) -> Iterator[Reason]:
    """Why `pod` is not ready; nothing for a pod that is ready or has ended well."""
    metadata, status = pod["metadata"], pod.get("status", {})
    name, namespace = str(metadata["name"]), str(metadata["namespace"])
    if status.get("phase") == "Succeeded":
        return
    if "deletionTimestamp" in metadata:
        yield Reason(name, namespace, "Terminating", "")
        return
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            state, message = str(condition.get("reason", "Unschedulable")), str(condition.get("message", ""))
            yield Reason(name, namespace, state, message, claims=_claims(pod))
            return
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    if not containers:
        yield Reason(name, namespace, "Pending", "not started on a node yet", claims=_claims(pod))
        return
    told = [reason for container in containers for reason in _container(name, namespace, container)]
    # A container that only waits for another says nothing new.
    loud = [reason for reason in told if reason.state not in _QUIET]
    yield from loud or told


def _claims(pod: Mapping[str, Any]) -> tuple[str, ...]:
    volumes = pod["spec"].get("volumes", ())
    return tuple(
        str(volume["persistentVolumeClaim"]["claimName"])
        for volume in volumes
        if "persistentVolumeClaim" in volume
    )


def _container(pod: str, namespace: str, status: Mapping[str, Any]) -> Iterator[Reason]:
    state, restarts, name = status.get("state", {}), int(status.get("restartCount", 0)), str(status["name"])
    if (waiting := state.get("waiting")) is not None:
        message = waiting.get("message", "")
        yield Reason(pod, namespace, waiting.get("reason", "Waiting"), message, name, restarts)
    elif (ended := state.get("terminated")) is not None:
        if ended.get("exitCode") != 0:
            message = ended.get("message") or f"exit code {ended.get('exitCode')}"
            yield Reason(pod, namespace, ended.get("reason", "Error"), message, name, restarts)
    elif not status.get("ready", False):
        yield Reason(pod, namespace, "Running", "not ready yet", name, restarts)
