"""The table of assertions, filled by the decorator."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from infra.policy.model import Estate, Resource

Severity = Literal["critical", "high", "medium", "low"]
Check = Callable[[Resource, Estate], Iterator[str]]
Select = Callable[[Estate], Sequence[Resource]]


@dataclass(frozen=True)
class Assertion:
    """One rule: which resources it concerns, and a function that says what is wrong with one of them."""

    id: str
    """`TS` and the three-digit number of the rule."""
    title: str
    """What holds, as a sentence."""
    severity: Severity
    fsbp: tuple[str, ...]
    """Identities in the AWS Foundational Security Best Practices."""
    family: str
    """What it is about, such as `RDS`."""
    select: Select
    """The resources it concerns."""
    check: Check
    """Messages about one resource; none when all is well."""
    seen_by_engine: bool = True
    """Whether a policy of the engine can tell; it is handed secrets in the clear, so not what is secret."""


ASSERTIONS: dict[str, Assertion] = {}
"""Every assertion by id, in order of the ids once all modules are imported."""


def assertion(
    number: int,
    title: str,
    *fsbp: str,
    on: Sequence[str] | Select,
    family: str,
    severity: Severity = "high",
    seen_by_engine: bool = True,
) -> Callable[[Check], Check]:
    """Register a function as assertion `number`; `on` gives type tokens or a function that selects.

    Raises:
        ValueError: the number is taken.
    """
    id_ = f"TS{number:03}"
    select = on if callable(on) else _of(on)

    def register(check: Check) -> Check:
        if id_ in ASSERTIONS:
            raise ValueError(f"two assertions are called {id_}")
        ASSERTIONS[id_] = Assertion(id_, title, severity, fsbp, family, select, check, seen_by_engine)
        return check

    return register


def _of(types: Sequence[str]) -> Select:
    return lambda estate: estate.of(*types)


def ordered() -> Mapping[str, Assertion]:
    """The assertions by id, in order."""
    return dict(sorted(ASSERTIONS.items()))
