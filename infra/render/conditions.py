"""Whether a custom resource works, by what its controller says in the status."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """Which conditions a kind must have."""

    types: tuple[str, ...]
    """Conditions that must be True."""
    each: str | None = None
    """List of the status whose items have them; None where the status itself has."""
    pods: str | None = None
    """Selector of the pods that its controller makes, with `{name}` and `{namespace}` of the object."""


_OPERATED = "app.kubernetes.io/managed-by=prometheus-operator,app.kubernetes.io/instance={name}"
_OWNING = "gateway.envoyproxy.io/owning-gateway"
_PROXIES = f"{_OWNING}-name={{name}},{_OWNING}-namespace={{namespace}}"

RULES: Mapping[str, Rule] = {
    "GatewayClass": Rule(("Accepted",)),
    "Gateway": Rule(("Accepted", "Programmed"), pods=_PROXIES),
    "HTTPRoute": Rule(("Accepted", "ResolvedRefs"), each="parents"),
    "BackendTrafficPolicy": Rule(("Accepted",), each="ancestors"),
    "ClientTrafficPolicy": Rule(("Accepted",), each="ancestors"),
    "SecurityPolicy": Rule(("Accepted",), each="ancestors"),
    "ScaledObject": Rule(("Ready",)),
    "Prometheus": Rule(("Reconciled", "Available"), pods=f"{_OPERATED},app.kubernetes.io/name=prometheus"),
    "Alertmanager": Rule(
        ("Reconciled", "Available"), pods=f"{_OPERATED},app.kubernetes.io/name=alertmanager"
    ),
}
"""By kind; other custom resources have no state that could be waited for."""


def unmet(live: Mapping[str, Any]) -> str:
    """What an object of a kind in `RULES` still lacks, in its controller's words; empty if nothing."""
    rule = RULES[str(live["kind"])]
    status = live.get("status", {})
    places: Sequence[Mapping[str, Any]] = [status] if rule.each is None else status.get(rule.each) or [{}]
    generation = int(live["metadata"].get("generation", 0))
    return "; ".join(text for place in places for text in _lacking(place, rule.types, generation))


def _lacking(place: Mapping[str, Any], types: Sequence[str], generation: int) -> Iterator[str]:
    conditions = {item["type"]: item for item in place.get("conditions") or ()}
    for kind in types:
        found = conditions.get(kind)
        # Not every controller tells what it has seen.
        if found is None or int(found.get("observedGeneration") or generation) < generation:
            yield f"not {kind} yet"
        elif found["status"] != "True":
            message = found.get("message") or found.get("reason")
            yield f"not {kind}: {message}" if message else f"not {kind}"
