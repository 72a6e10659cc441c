"""Wait until every workload of a plan is ready, telling what is pending and why."""

import time
from collections.abc import Sequence
from contextlib import suppress

from infra.errors import TradestackError
from infra.plan.model import Plan
from infra.process import CommandFailed
from infra.progress import Step, Steps
from infra.render.kubectl import Kubectl, Target
from infra.render.reasons import Reason, reasons
from infra.render.workloads import Snapshot, Workload, observe, pods_of

_POLL_SECONDS = 1.5
_LOG_LINES = 8
_LOG_GONE = "unable to retrieve container logs for "
"""The kubelet's whole answer for a container that has been removed meanwhile; not an error to kubectl."""
_TROUBLE_PATIENCE_SECONDS = 30
_ESTIMATE_SECONDS = 45


def wait_ready(plan: Plan, target: Target, steps: Steps, timeout_s: float) -> None:
    """Return when every workload is ready.

    Raises:
        TradestackError: the time is up, or something can never become ready; the message tells what and why.
    """
    kubectl = Kubectl(target)
    with steps.step("Wait until everything is ready", estimate_s=_ESTIMATE_SECONDS) as step:
        _Watch(plan, kubectl, step).until_ready(timeout_s)


class _Watch:
    """Looks at the cluster again and again, and remembers since when each trouble lasts."""

    def __init__(self, plan: Plan, kubectl: Kubectl, step: Step) -> None:
        self._plan, self._kubectl, self._step = plan, kubectl, step
        self._since: dict[tuple[str, ...], float] = {}

    def until_ready(self, timeout_s: float) -> None:
        """See `wait_ready`."""
        deadline = time.monotonic() + timeout_s
        while True:
            snapshot = observe(self._plan, self._kubectl)
            if not snapshot.pending:
                return
            self._show(snapshot)
            hopeless = [
                text for item in snapshot.pending if (text := self._hopeless(item, snapshot)) is not None
            ]
            if hopeless:
                raise TradestackError("\n".join(hopeless), hint=_HINT)
            if time.monotonic() > deadline:
                late = "\n".join(self._late(item, snapshot) for item in snapshot.pending)
                raise TradestackError(f"not ready after {timeout_s:.0f} s:\n{late}", hint=_HINT)
            time.sleep(_POLL_SECONDS)

    def _show(self, snapshot: Snapshot) -> None:
        done = len(snapshot.workloads) - len(snapshot.pending)
        waiting = ", ".join(self._brief(item, snapshot) for item in snapshot.pending)
        self._step.detail(f"{done} of {len(snapshot.workloads)} ready; pending: {waiting}")

    def _brief(self, workload: Workload, snapshot: Snapshot) -> str:
        found = self._reasons(workload, snapshot)
        why = (
            found[0].state
            if found
            else workload.lacks or ("blocked" if workload.trouble else f"{workload.ready}/{workload.desired}")
        )
        return f"{workload.item.name} ({why})"

    def _hopeless(self, workload: Workload, snapshot: Snapshot) -> str | None:
        if workload.failure is not None:
            return self._explain(workload, f"failed: {workload.failure}", self._reasons(workload, snapshot))
        found = self._reasons(workload, snapshot)
        lost = [reason for reason in found if reason.hopeless(self._lasting(reason.key))]
        if lost:
            return self._explain(workload, "cannot become ready", lost)
        trouble = workload.trouble
        if trouble is not None and self._lasting((str(workload.item), trouble)) > _TROUBLE_PATIENCE_SECONDS:
            return self._explain(workload, f"cannot become ready: {trouble}", [])
        return None

    def _late(self, workload: Workload, snapshot: Snapshot) -> str:
        state = f"{workload.ready} of {workload.desired} ready"
        if why := workload.trouble or workload.lacks:
            state += f"; {why}"
        return self._explain(workload, state, self._reasons(workload, snapshot))

    def _explain(self, workload: Workload, state: str, found: Sequence[Reason]) -> str:
        lines = [f"{workload.item}: {state}", *(f"  {reason}" for reason in found)]
        for reason in found[:1]:
            lines += [f"    {line}" for line in self._last_words(reason)]
        return "\n".join(lines)

    def _reasons(self, workload: Workload, snapshot: Snapshot) -> list[Reason]:
        return [reason for pod in pods_of(workload, snapshot) for reason in reasons(pod)]

    def _lasting(self, key: tuple[str, ...]) -> float:
        """Seconds since `key` was first seen."""
        return time.monotonic() - self._since.setdefault(key, time.monotonic())

    def _last_words(self, reason: Reason) -> list[str]:
        """The end of a container's log, or the newest events of a pod that has none yet."""
        place = ("--namespace", reason.namespace)
        if reason.state in {"Running", "CrashLoopBackOff", "Error", "OOMKilled"} and reason.container:
            logs = ("logs", reason.pod, *place, f"--container={reason.container}", f"--tail={_LOG_LINES}")
            # A container that runs again says in the log of the one before it why that one ended.
            orders = (("--previous",), ()) if reason.state == "Running" else ((), ("--previous",))
            for previous in orders:
                with suppress(CommandFailed):
                    words = self._kubectl(*logs, *previous)
                    if words and not words.startswith(_LOG_GONE):
                        return words.splitlines()
            return []
        events = self._kubectl.list("events", *place, "--sort-by=.lastTimestamp")
        about = {reason.pod, *reason.claims}
        told = [
            f"{event['involvedObject']['kind']} {event['involvedObject']['name']}: {event.get('message', '')}"
            for event in events
            if event["involvedObject"].get("name") in about and event.get("type") == "Warning"
        ]
        return list(dict.fromkeys(told))[-2:]


_HINT = "`tradestack status` shows all workloads; running the command again goes on from here"
