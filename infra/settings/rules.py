"""Rules over several keys at once: what they are, and how the files of rules register them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from infra.settings.model import StackSettings


@dataclass(frozen=True)
class Problem:
    """One reason why a stack file is refused."""

    key: str
    """Path below the project's namespace, such as `services.gateway.scaling.minimum`."""
    value: object
    allowed: str
    whole: bool = False
    """`key` already names its namespace."""

    def __str__(self) -> str:
        key = self.key if self.whole else f"tradestack:{self.key}"
        return f"{key}: {self.value} (allowed: {self.allowed})"


@dataclass(frozen=True)
class Rule:
    """A check of settings that are valid key by key."""

    model: type[StackSettings]
    """Settings that it applies to, those derived from them included."""
    keys: frozenset[str]
    """Top-level keys that it reads; it is left out while one of them is in error for itself."""
    check: Callable[[Any], Iterator[Problem]]


RULES: list[Rule] = []
"""Every rule, in the order in which problems are told."""

_Settings = TypeVar("_Settings", bound=StackSettings)
_Check = Callable[[_Settings], Iterator[Problem]]


def reads(model: type[_Settings], *keys: str) -> Callable[[_Check[_Settings]], _Check[_Settings]]:
    """Register a rule over these top-level `keys` of `model`'s settings."""

    def register(check: _Check[_Settings]) -> _Check[_Settings]:
        RULES.append(Rule(model, frozenset(keys), check))
        return check

    return register
