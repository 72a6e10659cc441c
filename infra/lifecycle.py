"""Bring a stack up, take it down, tell how it is: what `tradestack up`, `down` and `status` do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra import engine, kubeconfig, render
from infra.cluster.addons import platform
from infra.cluster.addons.platform import certificate
from infra.errors import TradestackError
from infra.images import build, catalog
from infra.plan import Plan, run, stackfile
from infra.progress import Steps
from infra.render.kubectl import Kubectl
from infra.target import Target

READY_TIMEOUT_S = 600.0
"""Default time limit of the wait for readiness, in seconds."""

_NONE: Mapping[str, str] = {}
_UNCHANGED = frozenset({"unchanged", "same"})


@dataclass(frozen=True)
class UpResult:
    """What `up` did."""

    url: str | None
    """Address of the web page, where the stack has one."""
    changes: dict[str, int]
    """Number of objects by what became of them: created, configured, unchanged, pruned; or, where the engine
    was used, resources by its own words."""

    @property
    def changed(self) -> int:
        """Number of objects that are not as they were before."""
        return sum(count for what, count in self.changes.items() if what not in _UNCHANGED)


def is_local(stack: str) -> bool:
    """Whether all of `stack` lives in one Kubernetes cluster, so that no cloud is touched."""
    return stackfile.configuration(stackfile.locate(stack)).get("tradestack:platform") == "local"


def up_cloud(stack: str, steps: Steps) -> UpResult:
    """Create or update a stack in the cloud.

    Raises:
        TradestackError: bad settings, no engine, or what the engine reported.
    """
    run(stack)
    engine.require(stack)
    with steps.step(f"pulumi up {stack}") as step:
        return UpResult(None, engine.Engine(stack).up(step))


def prepare(stack: str, target: Target, steps: Steps, settings: Mapping[str, str] = _NONE) -> None:
    """Start the cluster and give it what `stack` needs: images, add-ons, the edge's certificate.

    Only the stack's own resources are missing afterwards. `settings` are as those of `up_local`.

    Raises:
        TradestackError: bad settings, or a machine or a cluster that lacks something.
    """
    plan = _plan(stack, target, settings)
    images = _images(plan) | {name: catalog.reference(name) for name in platform.IMAGES}
    target.start(steps)
    archives = build.ensure(list(images), steps)
    target.load({reference: archives[name] for name, reference in images.items()}, steps)
    kubectl = Kubectl(target)
    platform.ensure(kubectl, steps)
    node = target.address or kubeconfig.address(target.kubeconfig)
    certificate.ensure(kubectl, target.state, {*_hostnames(plan), *([node] if node else [])}, steps)


def up_local(
    stack: str,
    target: Target,
    steps: Steps,
    *,
    timeout_s: float = READY_TIMEOUT_S,
    settings: Mapping[str, str] = _NONE,
) -> UpResult:
    """Bring `stack` up on `target` and wait until every workload is ready.

    `settings` are used in place of the stack file's, as text: objects and lists as JSON.

    Raises:
        TradestackError: bad settings, a machine that lacks something, or workloads that do not become ready.
    """
    _require_engine_of(stack, target)
    prepare(stack, target, steps, settings)
    plan = _plan(stack, target, settings)
    if not _is_the_engines(stack, target, plan):
        result = render.apply(plan, target, steps)
        changes = result.counts
        for change in result.changes:
            if change.action in ("configured", "pruned"):
                steps.note(f"  {change.action}: {change.object}")
    else:
        with steps.step("pulumi up", estimate_s=60) as step:
            changes = _engine(stack, target, settings).up(step)
    render.wait_ready(plan, target, steps, timeout_s)
    return UpResult(plan.outputs["urls"]["web"], changes)


def down_local(stack: str, target: Target, steps: Steps, *, volumes: bool) -> None:
    """Remove what `up` made, and only that; data in volumes stays unless `volumes`."""
    if target.exists:
        _require_engine_of(stack, target)
        plan = _plan(stack, target)
        if not _is_the_engines(stack, target, plan):
            render.delete(plan, target, steps, volumes=volumes)
        else:
            with steps.step("pulumi destroy", estimate_s=60) as step:
                _engine(stack, target).destroy(step, volumes=volumes)
    target.stop(steps, volumes=volumes)


def holds_data(stack: str, target: Target) -> bool:
    """Whether removing `stack` from `target` with its volumes would delete data."""
    return target.holds_data or (target.exists and render.holds_data(_plan(stack, target), target))


def status(stack: str, target: Target) -> dict[str, Any]:
    """The stack's state on `target` in the command line contract's form; not ready where nothing runs."""
    plan = _plan(stack, target)
    if not target.exists:
        return {"stack": stack, "ready": False, "urls": plan.outputs["urls"], "workloads": []}
    return render.status(plan, target)


def refuse_cloud(stack: str, command: str) -> None:
    """Say which command of the engine does it for stacks in the cloud.

    Raises:
        TradestackError: always; about the settings, where they are refused.
    """
    run(stack)
    raise TradestackError(
        f"`tradestack {command}` is for local stacks; '{stack}' is the engine's",
        hint=f"pulumi {command} -s {stack}",
    )


def _overrides(target: Target) -> dict[str, str]:
    address = {} if target.address is None else {"tradestack:address": target.address}
    return {"tradestack:kubeconfig": str(target.kubeconfig), **address}


def _plan(stack: str, target: Target, settings: Mapping[str, str] = _NONE) -> Plan:
    return run(stack, overrides={**_overrides(target), **settings})


def _require_engine_of(stack: str, target: Target) -> None:
    if engine.local_state(target.state, stack).exists():
        engine.require(stack)


def _is_the_engines(stack: str, target: Target, plan: Plan) -> bool:
    """Whether the engine is to be used: it cannot take over what was applied without it."""
    if engine.local_state(target.state, stack).exists():
        return True
    return engine.find() is not None and not render.is_applied(plan, target)


def _engine(stack: str, target: Target, settings: Mapping[str, str] = _NONE) -> engine.Engine:
    directory = engine.local_state(target.state, stack)
    return engine.Engine(stack, local=directory, overrides={**_overrides(target), **settings})


def _images(plan: Plan) -> dict[str, str]:
    """Name and reference of every image of the catalogue that the plan's pods use."""
    used = {reference for item in render.objects(plan) for reference in _references(item.manifest)}
    named = {name: catalog.reference(name) for name in catalog.PUBLISHED}
    return {name: reference for name, reference in named.items() if reference in used}


def _hostnames(plan: Plan) -> set[str]:
    """Names under which the plan's Gateways are asked for."""
    listeners = [
        listener
        for item in render.objects(plan)
        if item.kind == "Gateway"
        for listener in item.manifest["spec"].get("listeners", ())
    ]
    return {str(listener["hostname"]) for listener in listeners if listener.get("hostname")}


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["image"]} if isinstance(value.get("image"), str) else set()
        return own.union(*map(_references, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_references, value))
    return set()
