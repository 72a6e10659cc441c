"""What the benchmark of scaling makes of what it sees; the cluster is the benchmark's own matter."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.bench import scale
from infra.plan import run
from infra.progress import Steps
from infra.settings import parse
from infra.target import EmbeddedTarget

BEGAN = datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC).timestamp()


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(BEGAN + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(created: float, ready: float | None) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "False", "lastTransitionTime": moment(created)}
    if ready is not None:
        condition |= {"status": "True", "lastTransitionTime": moment(ready)}
    return {"metadata": {"creationTimestamp": moment(created)}, "status": {"conditions": [condition]}}


def begun() -> scale._Run:
    made = scale._Run(EmbeddedTarget("never-made"), "ws://127.0.0.1:1/ws", Steps())
    made._began, made._first = BEGAN, {"old"}
    return made


def test_the_stack_is_the_local_one_at_the_threshold_of_production() -> None:
    settings = scale._settings()
    planned = run("local", overrides=settings)
    (found,) = [
        item.inputs["spec"]
        for item in planned.resources
        if item.type.endswith(":ScaledObject") and item.custom and item.name == "price-service"
    ]
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (scale.MINIMUM, scale.MAXIMUM)
    assert found["triggers"][0]["metadata"]["threshold"] == "400"
    mine = {key.removeprefix("tradestack:"): value for key, value in settings.items()}
    edge = parse({"platform": "local", **mine}, file="x").edge
    assert edge.connections == 0
    assert edge.requests_per_second > scale.CONNECT_RATE
    assert scale.MINIMUM < scale._needed() < scale.MAXIMUM


def test_growing_ends_when_every_replica_that_is_needed_is_ready() -> None:
    measured = begun()
    seen = {"connections": 1020, "metric": 1020, "desired": 3}
    old, second = pod(-60, -50), pod(12, 20)
    assert not measured._grown(seen, {"old": old, "a": second, "b": pod(12, None)})
    assert measured._grown(seen, {"old": old, "a": second, "b": pod(12, 24)})
    at = {item["event"]: item["at_s"] for item in measured._timeline}
    assert (at["pod created: a"], at["pod ready: a"], at["pod ready: b"]) == (12, 20, 24)
    assert "pod created: old" not in at
    assert [item["event"] for item in measured._timeline][:3] == [
        "prometheus shows the load",
        "keda tells the load",
        "autoscaler decides",
    ]
    # Each is told once, however often it is seen.
    assert len(at) == len(measured._timeline)


def test_a_load_that_nobody_sees_is_not_told() -> None:
    measured = begun()
    assert not measured._grown({"connections": None, "metric": None, "desired": 1}, {"old": pod(-60, -50)})
    assert measured._timeline == []


def test_shrinking_ends_at_the_minimum() -> None:
    measured = begun()
    gone = {"connections": 20, "metric": 20, "desired": 2}
    three = {name: pod(0, 1) for name in ("a", "b", "c")}
    assert not measured._shrunk({**gone, "connections": 1020, "desired": 3}, three)
    assert not measured._shrunk(gone, {name: three[name] for name in ("a", "b")})
    assert measured._shrunk({**gone, "desired": 1}, {"a": three["a"]})
    assert [item["event"] for item in measured._timeline] == [
        "prometheus shows the end",
        "autoscaler wants 2",
        "2 pods",
        "autoscaler wants 1",
        "minimum",
    ]


def test_the_page_tells_every_key_of_the_result() -> None:
    page = (Path(__file__).parents[2] / "docs" / "autoscaling.md").read_text()
    for key in ("load_to_ready_s", "idle_to_minimum_s", "after_window_s", "timeline"):
        assert f"`{key}`" in page
