"""What changes between two plans of a stack: created, updated in place, replaced, deleted.

Nothing is asked of a provider. What replaces a resource comes from `replacement.yaml`; everything else of the
inputs is taken to change in place. Values that only a provider knows count as unchanged while they come from
the same resources and none of those is replaced.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from infra.plan import matching, replacement
from infra.plan.documents import documents_of
from infra.plan.identity import physical_name
from infra.plan.model import Plan, PlannedResource
from infra.plan.values import Difference, Item, Kind, Path, differences, hidden, path_text


class Action(StrEnum):
    """What happens to a resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True)
class Property:
    """One changed property."""

    difference: Difference
    forces: bool = False
    """Whether it replaces the resource."""
    because: str = ""
    """Why a value that looks the same changes, or under which condition the change replaces."""


@dataclass(frozen=True)
class Change:
    """What happens to one resource."""

    action: Action
    resource: PlannedResource
    """The resource as it will be; as it was when it is deleted."""
    former_urn: str = ""
    """Its URN until now, where that was another."""
    properties: tuple[Property, ...] = ()
    """What changes in its inputs; those that replace it first."""
    delete_first: bool = False
    """A replacement deletes the old one before there is a new one."""
    refused: str = ""
    """Why it will not happen; empty when nothing is in its way."""
    risk: str = ""
    """What is lost, in words."""
    notes: tuple[str, ...] = ()
    """What else a reader should know."""

    @property
    def dangerous(self) -> bool:
        """Whether it deletes or replaces what holds data, or takes its protection away."""
        return bool(self.risk)


@dataclass(frozen=True)
class Diff:
    """Every change, what is dangerous first."""

    changes: tuple[Change, ...]
    same: int
    """Resources without any change."""

    def count(self, action: Action) -> int:
        """How many resources `action` happens to."""
        return sum(change.action is action for change in self.changes)


_ORDER = (Action.REPLACE, Action.DELETE, Action.UPDATE, Action.CREATE)
_PROTECTIONS = ("deletionProtection", "enableDeletionProtection", "deletionProtectionEnabled")
_PROTECTED = "refused: protected"


def compare(old: Plan | None, new: Plan) -> Diff:
    """What has to happen to a stack that is as `old` says to become as `new` says; None: there is nothing."""
    before = dict(old.by_urn) if old else {}
    matched = matching.pairs(before, new)
    renamed = {former.urn: urn for urn, former in matched.items()}
    created = [item for item in new.resources if item.urn not in matched]
    gone = [item for item in before.values() if item.urn not in renamed]
    substitutes = matching.substitutes(gone, created)
    renamed |= {former.urn: urn for urn, former in substitutes.items()}
    context = _Context(old, new, renamed)
    changes, same = [], 0
    for resource in new.resources:
        if resource.urn in matched:
            change = _compared(matched[resource.urn], resource, context)
        elif resource.urn in substitutes:
            change = _substituted(substitutes[resource.urn], resource, context)
        else:
            change = Change(Action.CREATE, resource)
        if change is None:
            same += 1
            continue
        if change.action is Action.REPLACE:
            context.replaced[resource.urn] = change
        changes.append(change)
    substituted = {former.urn for former in substitutes.values()}
    changes += [_deleted(item) for item in reversed(gone) if item.urn not in substituted]
    changes.sort(key=lambda change: (not change.dangerous, not change.refused, _ORDER.index(change.action)))
    return Diff(tuple(changes), same)


class _Context:
    """What is known of the whole while resource after resource is compared."""

    def __init__(self, old: Plan | None, new: Plan, renamed: Mapping[str, str]) -> None:
        self._old, self._new = old, new
        self.resources = new.by_urn
        self.renamed = renamed
        """New URN of each old one."""
        self.replaced: dict[str, Change] = {}
        """Replacements so far, by new URN; what a resource depends on comes before it."""

    def documents(
        self, old: PlannedResource, new: PlannedResource
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What the unknown texts of a resource are made of, before and now."""
        return documents_of(old, self._old) if self._old else {}, documents_of(new, self._new)

    def urns(self, urns: Sequence[str]) -> set[str]:
        return {self.renamed.get(urn, urn) for urn in urns}


def _compared(old: PlannedResource, new: PlannedResource, context: _Context) -> Change | None:
    properties = _properties(old, new, context)
    if not properties and old.options.protect == new.options.protect:
        return None
    forced = any(item.forces for item in properties)
    action = Action.REPLACE if forced else Action.UPDATE
    lost = replacement.lost(old.type, old.inputs)
    notes = list(_notes(old, new, properties))
    former = old.urn if old.urn != new.urn else ""
    if not forced:
        unprotected = old.options.protect and not new.options.protect
        risk = f"no longer protected: {lost or 'the resource'}" if unprotected else ""
        if lost and not risk and any(item.because and _conditional(item) for item in properties):
            risk = f"may be replaced, which loses {lost}"
        return Change(action, new, former, properties, risk=risk, notes=tuple(notes))
    return Change(
        action,
        new,
        former,
        properties,
        delete_first=_delete_first(old, new),
        refused=_PROTECTED if old.options.protect and new.options.protect else _blocked(old, new),
        risk=f"loses {lost}" if lost else "",
        notes=tuple(notes),
    )


def _substituted(old: PlannedResource, new: PlannedResource, context: _Context) -> Change:
    properties = tuple(replace(item, forces=False) for item in _properties(old, new, context))
    lost = replacement.lost(old.type, old.inputs)
    note = f"renamed from '{old.name}' without an alias: the old one is deleted, a new one created"
    if old.name == new.name:
        note = "moved to another parent without an alias: the old one is deleted, a new one created"
    return Change(
        Action.REPLACE,
        new,
        old.urn,
        properties,
        refused=_PROTECTED if old.options.protect else _blocked(old, new),
        risk=f"loses {lost}" if lost else "",
        notes=(note,),
    )


def _deleted(old: PlannedResource) -> Change:
    lost = replacement.lost(old.type, old.inputs)
    if old.options.retain_on_delete:
        return Change(Action.DELETE, old, notes=("kept at the provider: retain_on_delete",))
    refused = _PROTECTED if old.options.protect else _blocked(old, old)
    return Change(Action.DELETE, old, refused=refused, risk=f"loses {lost}" if lost else "")


def _blocked(old: PlannedResource, new: PlannedResource) -> str:
    """Deletion protection of the provider's own, unless the same change lifts it."""
    for name in _PROTECTIONS:
        if str(old.inputs.get(name)).lower() == "true" and str(new.inputs.get(name)).lower() == "true":
            return f"refused by the provider: {name}"
    return ""


def _delete_first(old: PlannedResource, new: PlannedResource) -> bool:
    """Whether the old resource goes first: it is asked for, or both would have the same name."""
    if new.options.delete_before_replace:
        return True
    name = physical_name(new)
    return bool(name) and name == physical_name(old)


def _properties(old: PlannedResource, new: PlannedResource, context: _Context) -> tuple[Property, ...]:
    rules = replacement.rules(new.type) if new.custom else None
    ignored = [_pattern(path) for path in new.options.ignore_changes]
    replacing = [_pattern(path) for path in new.options.replace_on_changes]
    provider = context.resources.get(new.provider)
    settings = provider.inputs if provider else {}
    found = []
    for difference, because in [*_own(old, new, context), *_inherited(old, new, context)]:
        if any(_matches(pattern, difference.path) for pattern in ignored):
            continue
        forces = any(_matches(pattern, difference.path) for pattern in replacing)
        if rules and not forces:
            forces = _forced(rules, difference, new, settings)
            if not forces and (condition := rules.condition(difference.keys)):
                because = f"{_MAY}{condition}"
        found.append(Property(difference, forces, because))
    found += _provider(old, new, context)
    return tuple(sorted(found, key=lambda item: not item.forces))


_MAY = "may replace: "


def _conditional(item: Property) -> bool:
    return item.because.startswith(_MAY)


def _forced(
    rules: replacement.Rules, difference: Difference, new: PlannedResource, settings: Mapping[str, Any]
) -> bool:
    presence = difference.kind is not Kind.CHANGED
    if rules.forces(difference.keys, difference.old, difference.new, presence=presence):
        return True
    immutable = new.inputs.get("immutable") is True
    return bool(rules.unless) and rules.forces_unless(difference.keys, settings, immutable=immutable)


def _own(old: PlannedResource, new: PlannedResource, context: _Context) -> Iterator[tuple[Difference, str]]:
    for difference in differences(old.inputs, new.inputs):
        yield difference, ""
    # Texts that are unknown on both sides, by what they are made of.
    before, now = context.documents(old, new)
    for name in sorted(before.keys() & now.keys()):
        for difference in differences(before[name], now[name], (name,)):
            yield difference, ""


def _inherited(
    old: PlannedResource, new: PlannedResource, context: _Context
) -> Iterator[tuple[Difference, str]]:
    """Values not told before and after that come from another resource now, or from one that is replaced."""
    for name, value in new.inputs.items():
        now = set(new.property_dependencies.get(name, ()))
        if not now or name not in old.inputs:
            continue
        replaced = sorted(now & set(context.replaced))
        if replaced:
            because = _replaced([context.resources[urn] for urn in replaced])
        elif now != context.urns(old.property_dependencies.get(name, ())):
            because = "comes from other resources"
        else:
            continue
        before = {path_text(path): item for path, item in hidden(old.inputs[name], (name,))}
        told: set[Path] = set()
        for path, item in hidden(value, (name,)):
            former = before.get(path_text(path))
            whole = _without_place(path)
            if former is not None and type(former) is type(item) and whole not in told:
                told.add(whole)
                yield Difference(whole, Kind.CHANGED, former, item), because


def _provider(old: PlannedResource, new: PlannedResource, context: _Context) -> Iterator[Property]:
    """Another provider, or one that is replaced, replaces what it manages."""
    if not new.custom or not new.provider:
        return
    former = context.renamed.get(old.provider, old.provider)
    if new.provider in context.replaced:
        because = f"{_label(context.resources[new.provider])} is replaced"
    elif former and former != new.provider:
        because = "another provider"
    else:
        return
    names = (old.provider.rpartition("::")[2], new.provider.rpartition("::")[2])
    yield Property(Difference(("provider",), Kind.CHANGED, *names), forces=True, because=because)


def _notes(old: PlannedResource, new: PlannedResource, properties: Sequence[Property]) -> Iterator[str]:
    if new.custom and properties and replacement.rules(new.type) is None:
        yield "replacement rules unknown: it may be replaced"
    if old.options.protect != new.options.protect:
        yield "protection is switched on" if new.options.protect else "protection is switched off"
    if new.type == "pulumi:providers:aws" and any(
        item.difference.path[0] == "defaultTags" for item in properties
    ):
        yield "the tags of every AWS resource are updated in place"


def _without_place(path: Path) -> Path:
    """The list that a value stands in, told once for all its values."""
    return path[:-1] if isinstance(path[-1], Item) else path


def _replaced(resources: Sequence[PlannedResource]) -> str:
    first, others = _label(resources[0]), len(resources) - 1
    return f"{first} and {others} more are replaced" if others else f"{first} is replaced"


def _label(resource: PlannedResource) -> str:
    return f"{resource.type.rpartition(':')[2]} {resource.name}"


Pattern = tuple[str | int, ...]


def _pattern(path: str) -> Pattern:
    """A property path as resource options have it: `spec.replicas`, `list[0].name`, `tags["a.b"]`, `*`."""
    parts: list[str | int] = []
    for piece in path.replace("[", ".[").split(".["):
        inside, bracket, rest = piece.partition("]")
        if bracket:
            parts.append(inside.strip("\"'") if inside[:1] in "\"'" else _index(inside))
            parts += [part for part in rest.split(".") if part]
        else:
            parts += [part for part in piece.split(".") if part]
    return tuple(parts)


def _index(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _matches(pattern: Pattern, path: Path) -> bool:
    """Whether `path` is at or below what the pattern names."""
    if len(pattern) > len(path):
        return False
    for want, part in zip(pattern, path, strict=False):
        value = part.position if isinstance(part, Item) else part
        if want != "*" and want != value:
            return False
    return True
