"""Which resource of an old plan each resource of a new one is, or stands in for."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from infra.plan import replacement
from infra.plan.identity import former_urns, physical_name
from infra.plan.model import Plan, PlannedResource

_Key = Callable[[PlannedResource], str]


def pairs(before: Mapping[str, PlannedResource], new: Plan) -> dict[str, PlannedResource]:
    """The old resource of each new URN, aliases respected."""
    matched: dict[str, PlannedResource] = {}
    taken: set[str] = set()
    former = former_urns(new)
    for resource in new.resources:
        own = before.get(resource.urn)
        if own is not None:
            matched[resource.urn] = own
            taken.add(own.urn)
    for resource in new.resources:
        if resource.urn not in matched:
            match = next((urn for urn in former[resource.urn] if urn in before and urn not in taken), None)
            if match is not None:
                matched[resource.urn] = before[match]
                taken.add(match)
    return matched


def substitutes(
    gone: Sequence[PlannedResource], created: Sequence[PlannedResource]
) -> dict[str, PlannedResource]:
    """Which deleted resource each created one stands in for: a rename for which nobody wrote an alias.

    The same type, and the same name at the provider, or the same name in the program, or that name with the
    new name of a renamed component in it; of a type that holds data also the only one deleted and the only
    one created.
    """
    found: dict[str, PlannedResource] = {}
    taken: set[str] = set()
    custom = [item for item in gone if item.custom]
    components = _renamed_components(gone, created)
    stages: tuple[tuple[_Key, _Key], ...] = (
        (physical_name, physical_name),
        (_name, _name),
        (lambda item: _with_new_prefix(item.name, components), _name),
    )
    for old_key, new_key in stages:
        groups: dict[tuple[str, str], list[PlannedResource]] = defaultdict(list)
        for item in custom:
            if item.urn not in taken and old_key(item):
                groups[item.type, old_key(item)].append(item)
        for item in created:
            known = new_key(item) if item.urn not in found else ""
            group = groups.get((item.type, known), []) if known else []
            if group:
                found[item.urn] = group.pop(0)
                taken.add(found[item.urn].urn)
    left_old = Counter(item.type for item in custom if item.urn not in taken)
    left_new = Counter(item.type for item in created if item.urn not in found)
    for item in created:
        if item.urn in found or not replacement.lost(item.type, item.inputs):
            continue
        if left_old[item.type] == 1 and left_new[item.type] == 1:
            found[item.urn] = next(one for one in custom if one.type == item.type and one.urn not in taken)
            taken.add(found[item.urn].urn)
    return found


def _name(item: PlannedResource) -> str:
    return item.name


def _renamed_components(
    gone: Sequence[PlannedResource], created: Sequence[PlannedResource]
) -> dict[str, str]:
    """New name of each component, by the old one, that is the only one of its type to go and to come."""
    old = [item for item in gone if not item.custom]
    new = {item.type: item.name for item in created if not item.custom}
    left_old = Counter(item.type for item in old)
    left_new = Counter(item.type for item in created if not item.custom)
    return {item.name: new[item.type] for item in old if left_old[item.type] == left_new[item.type] == 1}


def _with_new_prefix(name: str, components: Mapping[str, str]) -> str:
    """`name` as it would be called below the renamed component; components' children begin with its name."""
    for old, new in components.items():
        if name == old or name.startswith(f"{old}-"):
            return new + name.removeprefix(old)
    return ""
