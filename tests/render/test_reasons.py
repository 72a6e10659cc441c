"""Why pods are not ready: the cluster's words, and when waiting on makes no sense."""

from typing import Any

import pytest

from infra.render.reasons import Reason, reasons


def _pod(**status: Any) -> dict[str, Any]:
    metadata = {"name": "gateway-1", "namespace": "trading-system"}
    claims = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-0"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    return {"metadata": metadata, "spec": {"volumes": claims}, "status": status}


def _container(state: dict[str, Any], *, ready: bool = False, restarts: int = 0, name: str = "app") -> Any:
    return {"name": name, "state": state, "ready": ready, "restartCount": restarts}


def _only(pod: dict[str, Any]) -> Reason:
    found = list(reasons(pod))
    assert len(found) == 1
    return found[0]


def test_a_ready_pod_and_an_ended_task_have_none() -> None:
    assert not list(reasons(_pod(phase="Succeeded")))
    running = _container({"running": {}}, ready=True)
    done = _container({"terminated": {"exitCode": 0, "reason": "Completed"}}, name="wait")
    assert not list(reasons(_pod(phase="Running", initContainerStatuses=[done], containerStatuses=[running])))


def test_unschedulable_in_the_words_of_the_scheduler() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }
    reason = _only(_pod(phase="Pending", conditions=[condition]))
    assert str(reason) == "pod gateway-1: Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."
    assert not reason.hopeless(59)
    assert reason.hopeless(60)


def test_a_pod_without_containers_waits_for_its_volume() -> None:
    reason = _only(_pod(phase="Pending"))
    assert reason.state == "Pending"
    assert reason.claims == ("data-0",)
    assert not reason.hopeless(10_000)


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        ("InvalidImageName", 0),
        ("ErrImageNeverPull", 0),
        ("ImagePullBackOff", 20),
        ("CreateContainerConfigError", 30),
    ],
)
def test_states_that_are_given_up(state: str, seconds: int) -> None:
    waiting = {"waiting": {"reason": state, "message": "no such image"}}
    reason = _only(_pod(phase="Pending", containerStatuses=[_container(waiting)]))
    assert str(reason) == f"pod gateway-1, container app: {state}: no such image"
    assert reason.hopeless(seconds)
    assert seconds == 0 or not reason.hopeless(seconds - 1)


def test_a_crash_loop_is_given_up_after_four_restarts() -> None:
    def crashing(restarts: int) -> Reason:
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
        return _only(_pod(phase="Running", containerStatuses=[_container(waiting, restarts=restarts)]))

    assert not crashing(3).hopeless(10_000)
    assert crashing(4).hopeless(0)
    assert str(crashing(4)) == "pod gateway-1, container app: CrashLoopBackOff after 4 restarts: back-off"


def test_the_container_that_is_the_cause_is_named_not_those_that_wait_for_it() -> None:
    cause = _container({"running": {}}, name="wait")
    waiting = _container({"waiting": {"reason": "PodInitializing"}})
    reason = _only(_pod(phase="Pending", initContainerStatuses=[cause], containerStatuses=[waiting]))
    assert reason.container == "wait"
    assert str(reason) == "pod gateway-1, container wait: Running: not ready yet"


def test_a_failed_container_tells_its_exit_code() -> None:
    ended = _container({"terminated": {"exitCode": 3, "reason": "Error"}})
    assert str(_only(_pod(phase="Failed", containerStatuses=[ended]))).endswith("Error: exit code 3")
