"""Whether custom resources count as ready."""

from typing import Any

import pytest

from infra.render.conditions import RULES, unmet


def resource(kind: str, status: dict[str, Any], generation: int = 1) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", "generation": generation}, "status": status}


def condition(kind: str, value: str = "True", seen: int = 1, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": value, "observedGeneration": seen, "message": message}


def test_a_gateway_is_ready_once_it_is_programmed() -> None:
    ready = [condition("Accepted"), condition("Programmed")]
    assert unmet(resource("Gateway", {"conditions": ready})) == ""
    waits = [condition("Accepted"), condition("Programmed", "False", message="no addresses")]
    assert unmet(resource("Gateway", {"conditions": waits})) == "not Programmed: no addresses"


def test_what_was_said_about_an_older_version_does_not_count() -> None:
    ready = [condition("Accepted"), condition("Programmed")]
    assert "not Programmed yet" in unmet(resource("Gateway", {"conditions": ready}, generation=2))


def test_a_controller_that_does_not_tell_what_it_saw_is_believed() -> None:
    ready = {"type": "Ready", "status": "True"}
    assert unmet(resource("ScaledObject", {"conditions": [ready]}, generation=7)) == ""


def test_every_parent_of_a_route_must_accept_it() -> None:
    good = {"conditions": [condition("Accepted"), condition("ResolvedRefs")]}
    bad = {"conditions": [condition("Accepted"), condition("ResolvedRefs", "False", message="no Service a")]}
    assert unmet(resource("HTTPRoute", {"parents": [good]})) == ""
    assert unmet(resource("HTTPRoute", {"parents": [good, bad]})) == "not ResolvedRefs: no Service a"


@pytest.mark.parametrize("kind", sorted(RULES))
def test_an_object_that_no_controller_has_seen_is_not_ready(kind: str) -> None:
    assert unmet(resource(kind, {}))
    assert unmet({"kind": kind, "metadata": {"name": "x"}})
