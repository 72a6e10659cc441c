"""Which changed input replaces a resource: the rules of `replacement.yaml`, from the providers' sources."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("replacement.yaml")
"""The rules, each with its source."""

_BLOCK = "#"

Keys = tuple[str, ...]
"""A property path without the places in lists: `("spec", "containers", "image")`."""


@dataclass(frozen=True)
class Rules:
    """What replaces a resource of one type."""

    source: str
    """Repository, commit and file that say so."""
    replace: tuple[Keys, ...]
    """Below these paths every change replaces; a path that ends in `#` only when the block comes or goes."""
    lowered: tuple[Keys, ...] = ()
    """Versions that can only be raised in place."""
    perhaps: Mapping[Keys, str] = field(default_factory=dict)
    """Paths that replace under a condition, in words."""
    unless: Mapping[str, tuple[Keys, ...]] = field(default_factory=dict)
    """Paths that replace unless the provider is configured with the key."""

    def forces(self, keys: Keys, old: Any, new: Any, *, presence: bool) -> bool:
        """Whether a change at `keys` replaces; `presence`: the value was added or removed as a whole."""
        if any(_touches(rule, keys, old, new, presence) for rule in self.replace):
            return True
        return keys in self.lowered and _version(new) < _version(old)

    def condition(self, keys: Keys) -> str:
        """Under which condition a change at `keys` replaces, in words; empty when it never does."""
        return next((why for rule, why in self.perhaps.items() if keys[: len(rule)] == rule), "")

    def forces_unless(self, keys: Keys, provider: Mapping[str, Any], *, immutable: bool) -> bool:
        """Whether a change at `keys` replaces for want of a setting in the inputs of the `provider`."""
        return any(
            keys[: len(rule)] == rule
            for setting, paths in self.unless.items()
            for rule in paths
            if immutable or str(provider.get(setting)).lower() != "true"
        )


def rules(type_: str) -> Rules | None:
    """Rules of a type; None when nobody has looked them up.

    Kubernetes kinds without an entry have the rules of every kind, as their provider has it.
    """
    found = _table().get(type_)
    if found is None and type_.startswith("kubernetes:"):
        return _table()["kubernetes:"]
    return found


def lost(type_: str, inputs: Mapping[str, Any]) -> str:
    """What is lost with a resource, in words; empty when it holds nothing."""
    if type_.endswith(":StatefulSet") and not inputs.get("spec", {}).get("volumeClaimTemplates"):
        return ""
    return str(_file()["data"].get(type_, ""))


@cache
def _file() -> dict[str, Any]:
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    content: dict[str, Any] = yaml.load(FILE.read_text(), Loader=loader)  # noqa: S506 - a safe loader
    return content


@cache
def _table() -> dict[str, Rules]:
    table = {}
    for name, section in _file().items():
        if name == "data":
            continue
        every, prefix = section.get("every", []), section.get("prefix", "")
        where = f"{section['repository']}@{section['commit'][:12]}" if "commit" in section else ""
        for type_, entry in section["types"].items():
            source = f"{where or section['repository']} {prefix}{entry.get('source', section.get('source'))}"
            table[type_] = _rules(entry, source, every)
        if name == "kubernetes":
            table["kubernetes:"] = _rules({"replace": []}, f"{where} {section['source']}", every)
    return table


def _rules(entry: Mapping[str, Any], source: str, every: Sequence[str]) -> Rules:
    return Rules(
        source=source,
        replace=tuple(_keys([*every, *entry["replace"]])),
        lowered=tuple(_keys(entry.get("lowered", []))),
        perhaps={tuple(path.split(".")): why for path, why in entry.get("perhaps", {}).items()},
        unless={setting: tuple(_keys(paths)) for setting, paths in entry.get("unless", {}).items()},
    )


def _keys(paths: Sequence[str]) -> Iterator[Keys]:
    for path in paths:
        yield tuple(path.split("."))


def _touches(rule: Keys, keys: Keys, old: Any, new: Any, presence: bool) -> bool:
    block = rule[-1] == _BLOCK
    path = rule[:-1] if block else rule
    if keys[: len(path)] == path:
        return not block or (presence and keys == path)
    # The change holds the rule's path within: a whole block came or went.
    if path[: len(keys)] != keys:
        return False
    rest = path[len(keys) :]
    return _holds(old, rest) or _holds(new, rest)


def _holds(value: Any, path: Keys) -> bool:
    if not path:
        return True
    if isinstance(value, list):
        return any(_holds(item, path) for item in value)
    return isinstance(value, Mapping) and path[0] in value and _holds(value[path[0]], path[1:])


def _version(value: Any) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", str(value))]
