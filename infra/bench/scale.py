"""How fast price-service grows when clients come, and how it shrinks when they are gone."""

import asyncio
import json
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from infra import lifecycle
from infra.bench.kubernetes_api import KubernetesApi
from infra.bench.report import Report, versions
from infra.errors import TradestackError
from infra.loadtest.arrival import Schedule
from infra.loadtest.stream import Listening, StreamLoad, allow_files
from infra.plan import stackfile
from infra.progress import Step, Steps
from infra.target import EmbeddedTarget

_CLUSTER = "bench-scale"
_ROLE = "price-service"
_NAMESPACE = "/api/v1/namespaces/trading-system"
_HPA = f"/apis/autoscaling/v2/namespaces/trading-system/horizontalpodautoscalers/keda-hpa-{_ROLE}"
_METRIC = "/apis/external.metrics.k8s.io/v1beta1/namespaces/trading-system/s0-prometheus"
_SCALED_OBJECT = f"/apis/keda.sh/v1alpha1/namespaces/trading-system/scaledobjects/{_ROLE}"
_PROMETHEUS = "/api/v1/namespaces/trading-monitoring/services/prometheus:9090/proxy/api/v1/query"
_QUERY = f'sum(websocket_connections_active{{service="{_ROLE}"}})'

MINIMUM, MAXIMUM = 1, 4
PER_POD = 400
"""Connections for each replica, as in production (seed 000 section 5.2)."""
CONNECTIONS = 1000
"""Of the load, which so needs three replicas."""
CONNECT_RATE = 250.0
"""Connections opened a second."""
WATCHERS, JOINED = 20, 40
"""Clients that stay while replicas come and go: those of the beginning, and those that come when all replicas
are there, so that every replica that goes has some."""
_SYMBOLS = ("BTC-USD", "ETH-USD")
_LOOK_S = 0.5
_HELD_S = 15.0
"""How long the load stays after the replicas are ready."""
_SETTLED_S, _GROWN_S = 240.0, 300.0
_FOREVER_S = 86_400.0


def measure(steps: Steps) -> Report:
    """Bring the local stack up on a cluster of its own, load it, take the load away; deletes the cluster.

    `load_to_ready_s` is the time from the first connection of the load to the moment at which every replica
    that it needs is Ready. `idle_to_minimum_s` is the time from the end of the load until only the minimum is
    left, which is never less than `down_window_s`. All that was seen is in `timeline`, in seconds after the
    beginning of the load.

    Raises:
        TradestackError: the replicas did not come or go in time, no watching client had to move, or one lost
            messages without being told.
    """
    target = EmbeddedTarget(_CLUSTER)
    if target.cluster.instance.state.exists():
        raise TradestackError(
            f"there is a cluster '{_CLUSTER}' already, and the benchmark would delete it",
            hint=f"tradestack cluster down --name {_CLUSTER} --purge",
        )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        up = lifecycle.up_local("local", target, steps, settings=_settings())
        if up.url is None:
            raise TradestackError("the local stack has no address to connect to")
        ours = asyncio.run(_Run(target, up.url.replace("http", "ws", 1) + "/ws", steps).run())
    finally:
        target.stop(steps, volumes=True)
        signal.signal(signal.SIGTERM, before)
    return Report(name="scale", ours=ours, versions=dict(versions(["picows"])))


def _settings() -> dict[str, str]:
    """What differs from the local stack: bounds, the threshold of production, no limits for one client."""
    configuration = stackfile.configuration(stackfile.locate("local"))
    services = json.loads(configuration["tradestack:services"])
    services[_ROLE] = {
        **services.get(_ROLE, {}),
        "scaling": {"minimum": MINIMUM, "maximum": MAXIMUM, "connectionsPerReplica": PER_POD},
    }
    # All clients have the address of this machine.
    edge = {
        **json.loads(configuration.get("tradestack:edge", "{}")),
        "connections": 0,
        "requestsPerSecond": 10_000,
    }
    return {"tradestack:services": json.dumps(services), "tradestack:edge": json.dumps(edge)}


class _Run:
    """One measurement on a stack that is up."""

    def __init__(self, target: EmbeddedTarget, url: str, steps: Steps) -> None:
        self._target, self._url, self._steps = target, url, steps
        self._began = 0.0
        self._timeline: list[dict[str, Any]] = []
        self._told: set[str] = set()
        self._first: set[str] = set()
        """Pods that were there before the load."""
        self._window_s = 0

    async def run(self) -> dict[str, Any]:
        """Grow and shrink; returns the figures."""
        allow_files(CONNECTIONS + WATCHERS + JOINED)
        watchers = [self._load(clients, 20.0, resume=True) for clients in (WATCHERS, JOINED)]
        load = self._load(CONNECTIONS, CONNECT_RATE, resume=False)
        async with KubernetesApi(self._target.kubeconfig) as api:
            await self._grow_and_shrink(api, watchers, load)
        told = [item for item in self._timeline if item["event"] in ("ready", "minimum")]
        ready, minimum = told[0]["at_s"], told[-1]["at_s"]
        ended = next(item["at_s"] for item in self._timeline if item["event"] == "load ended")
        found = {
            "load_to_ready_s": ready,
            "idle_to_minimum_s": round(minimum - ended, 1),
            "down_window_s": self._window_s,
            "after_window_s": round(minimum - ended - self._window_s, 1),
            "connections": CONNECTIONS + WATCHERS + JOINED,
            "per_replica": PER_POD,
            "replicas": {"minimum": MINIMUM, "needed": _needed()},
            "watching": _watching(watchers),
            "failures": load.failures,
            "timeline": self._timeline,
        }
        watching = found["watching"]
        if watching["gaps_untold"] or watching["failures"] or not watching["reconnects"]:
            raise TradestackError(f"clients were not served on: {json.dumps(watching)}")
        return found

    async def _grow_and_shrink(
        self, api: KubernetesApi, watchers: Sequence[StreamLoad], load: StreamLoad
    ) -> None:
        with self._steps.step("Wait until every metric is there", estimate_s=45) as step:
            await self._settled(api, step)
        watching, loading = asyncio.Event(), asyncio.Event()
        first, joined = watchers
        tasks = [asyncio.create_task(first.run(watching))]
        try:
            await asyncio.sleep(5)
            self._first = set(await self._pods(api))
            self._began = time.time()
            self._tell("load begins", connections=CONNECTIONS)
            tasks.append(asyncio.create_task(load.run(loading)))
            with self._steps.step("Until the replicas are Ready", estimate_s=45) as step:
                await self._watch(api, self._grown, step, _GROWN_S)
            tasks.append(asyncio.create_task(joined.run(watching)))
            await asyncio.sleep(_HELD_S)
            loading.set()
            await tasks[1]
            self._tell("load ended")
            self._told.clear()
            at_most = self._window_s + 60 * (_needed() - MINIMUM) + 180
            with self._steps.step("Back to the minimum", estimate_s=self._window_s + 90) as step:
                await self._watch(api, self._shrunk, step, at_most)
            await asyncio.sleep(5)
        finally:
            watching.set()
            loading.set()
            await asyncio.gather(*tasks)

    def _load(self, connections: int, rate: float, *, resume: bool) -> StreamLoad:
        listening = Listening([self._url], _SYMBOLS, each=1, resume=resume, timeout=60.0)
        schedule = Schedule(rate, connections / rate, connections)
        return StreamLoad(listening, schedule=schedule, hold=_FOREVER_S, max_messages=2**62)

    async def _settled(self, api: KubernetesApi, step: Step) -> None:
        """Wait until metrics arrive and there is the minimum; what the start scaled up is taken back."""
        deadline = time.monotonic() + _SETTLED_S
        while True:
            missing = await self._missing(api)
            if missing is None:
                return
            if missing == "minimum":
                self._start_over()
            step.detail(f"waiting for {missing}")
            if time.monotonic() > deadline:
                raise TradestackError(f"nothing can be measured: no {missing} after {_SETTLED_S:.0f} s")
            await asyncio.sleep(2)

    async def _missing(self, api: KubernetesApi) -> str | None:
        scaled = await api.get(_SCALED_OBJECT) or {}
        conditions = {item["type"]: item["status"] for item in scaled.get("status", {}).get("conditions", ())}
        if conditions.get("Ready") != "True":
            return "ScaledObject that is Ready"
        if conditions.get("Fallback") == "True" or await self._value(api) is None:
            return "metric"
        hpa = await api.get(_HPA)
        if hpa is None or not hpa["status"].get("currentMetrics"):
            return "metric in the autoscaler"
        self._window_s = int(hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"])
        return None if len(await self._pods(api)) == MINIMUM else "minimum"

    def _start_over(self) -> None:
        """Forget what the autoscaler remembers of the start: KEDA makes a new one at once."""
        kubectl = self._target.cluster.kubectl
        kubectl("delete", "hpa", f"keda-hpa-{_ROLE}", "-n", "trading-system", "--ignore-not-found")
        kubectl("scale", f"deployment/{_ROLE}", f"--replicas={MINIMUM}", "-n", "trading-system")

    async def _watch(
        self,
        api: KubernetesApi,
        done: Callable[[dict[str, Any], dict[str, Any]], bool],
        step: Step,
        at_most_s: float,
    ) -> None:
        """Look again and again, note what is new, until `done` says so."""
        deadline = time.monotonic() + at_most_s
        while True:
            connections, metric = await self._value(api), await self._metric(api)
            hpa, pods = await api.get(_HPA) or {}, await self._pods(api)
            desired = hpa.get("status", {}).get("desiredReplicas", 0)
            seen = {"connections": connections, "metric": metric, "desired": desired}
            if done(seen, pods):
                return
            step.detail(f"{connections} connections, {desired} wanted, {len(pods)} pods")
            if time.monotonic() > deadline:
                raise TradestackError(
                    f"not so after {at_most_s:.0f} s: {seen}, {len(pods)} pods; {self._timeline}"
                )
            await asyncio.sleep(_LOOK_S)

    def _grown(self, seen: dict[str, Any], pods: dict[str, Any]) -> bool:
        limit = PER_POD * MINIMUM
        self._note("prometheus shows the load", (seen["connections"] or 0) > limit, value=seen["connections"])
        self._note("keda tells the load", (seen["metric"] or 0) > limit, value=seen["metric"])
        self._note("autoscaler decides", seen["desired"] > MINIMUM, replicas=seen["desired"])
        for name, pod in pods.items():
            if name not in self._first:
                created = _seconds(pod["metadata"]["creationTimestamp"])
                self._note(f"pod created: {name}", True, at=created)
                self._note(f"pod ready: {name}", _ready(pod) is not None, at=_ready(pod))
        grown = sum(_ready(pod) is not None for pod in pods.values()) >= _needed()
        self._note("ready", grown, replicas=len(pods))
        return grown

    def _shrunk(self, seen: dict[str, Any], pods: dict[str, Any]) -> bool:
        limit = PER_POD * MINIMUM
        gone = seen["connections"] is not None and seen["connections"] <= limit
        self._note("prometheus shows the end", gone, value=seen["connections"])
        self._note(f"autoscaler wants {seen['desired']}", seen["desired"] < _needed())
        for count in range(MINIMUM, _needed()):
            self._note("minimum" if count == MINIMUM else f"{count} pods", len(pods) <= count)
        return len(pods) <= MINIMUM

    def _note(self, event: str, happened: bool, *, at: float | None = None, **more: Any) -> None:
        """Put what happened into the timeline, once."""
        if happened and event not in self._told:
            self._told.add(event)
            self._tell(event, at=at, **more)

    def _tell(self, event: str, *, at: float | None = None, **more: Any) -> None:
        at = time.time() if at is None else at
        moment = datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")
        self._timeline.append({"event": event, "at_s": round(at - self._began, 1), "time": moment, **more})

    @staticmethod
    async def _pods(api: KubernetesApi) -> dict[str, Any]:
        """Pods that are not on their way out, by name."""
        found = await api.get(f"{_NAMESPACE}/pods", labelSelector=f"app.kubernetes.io/name={_ROLE}") or {}
        return {
            pod["metadata"]["name"]: pod
            for pod in found.get("items", ())
            if "deletionTimestamp" not in pod["metadata"]
        }

    @staticmethod
    async def _value(api: KubernetesApi) -> int | None:
        found = await api.get(_PROMETHEUS, query=_QUERY) or {}
        result = found.get("data", {}).get("result")
        return int(float(result[0]["value"][1])) if result else None

    @staticmethod
    async def _metric(api: KubernetesApi) -> int | None:
        found = await api.get(_METRIC, labelSelector=f"scaledobject.keda.sh/name={_ROLE}") or {}
        items = found.get("items")
        if not items:
            return None
        value = str(items[0]["value"])
        return int(value[:-1]) // 1000 if value.endswith("m") else int(float(value))


def _watching(watchers: Sequence[StreamLoad]) -> dict[str, Any]:
    """What all clients saw that stayed."""
    return {
        "clients": WATCHERS + JOINED,
        "messages": sum(each.messages for each in watchers),
        "reconnects": sum(each.reconnects for each in watchers),
        "resumed_whole": sum(each.resumed_whole for each in watchers),
        "resumed_anew": sum(each.resumed_anew for each in watchers),
        "gaps_told": sum(each.told_gaps for each in watchers),
        "gaps_untold": sum(each.untold_gaps for each in watchers),
        "failures": dict(sum((Counter(each.failures) for each in watchers), Counter())),
    }


def _needed() -> int:
    """Replicas that the load and those who watch need."""
    return math.ceil((CONNECTIONS + WATCHERS + JOINED) / PER_POD)


def _ready(pod: dict[str, Any]) -> float | None:
    """Unix time at which a pod became Ready; None where it is not."""
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return _seconds(condition["lastTransitionTime"])
    return None


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
