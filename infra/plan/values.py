"""Two values compared: every path at which they differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from infra.plan.model import UNKNOWN, Secret, Unknown, masked
from infra.plan.replacement import Keys

_IDENTIFYING = ("name", "key", "sid", "Sid", "id", "containerPort", "port")
"""Properties by which the objects of a list are told apart, the first that fits."""


class Item(NamedTuple):
    """A place in a list: its label is the name of the object there, or its index."""

    label: str
    position: int


Path = tuple[str | Item, ...]


class Kind(StrEnum):
    """How a value differs."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True)
class Difference:
    """One path at which two values differ; `old` or `new` is None where there is none."""

    path: Path
    kind: Kind
    old: Any
    new: Any

    @property
    def text(self) -> str:
        """The path as people write it: `spec.containers[app].image`."""
        return path_text(self.path)

    @property
    def hidden(self) -> str:
        """What to say where neither value can be told; empty where one can."""
        if not all(isinstance(value, Unknown | Secret) for value in (self.old, self.new)):
            return ""
        return "another secret" if isinstance(self.new, Secret) else "another value"

    @property
    def keys(self) -> Keys:
        """The path without the places in lists."""
        return tuple(part for part in self.path if isinstance(part, str))


def path_text(path: Path) -> str:
    """`path` as people write it; keys with dots stand in brackets."""
    text = ""
    for part in path:
        if isinstance(part, Item):
            text += f"[{part.label}]"
        elif "." in part or "/" in part:
            text += f'["{part}"]'
        else:
            text += f".{part}" if text else part
    return text


def differences(old: Any, new: Any, path: Path = ()) -> Iterator[Difference]:
    """Every path at which `new` differs from `old`.

    Lists of objects are matched by name; text that is JSON is compared as what it says. Unknown equals
    unknown. A secret equals a secret when they are the same, or when one of them comes from a document, where
    it is masked; where only one of the two is secret, neither value is told.
    """
    if isinstance(old, Secret) or isinstance(new, Secret):
        yield from _secrets(old, new, path)
    elif isinstance(old, Unknown) or isinstance(new, Unknown):
        if type(old) is not type(new):
            yield Difference(path, Kind.CHANGED, old, new)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _objects(old, new, path)
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        yield from _lists(old, new, path)
    elif isinstance(old, str) and isinstance(new, str):
        if old != new:
            yield from _texts(old, new, path)
    elif old != new or isinstance(old, bool) is not isinstance(new, bool):
        yield Difference(path, Kind.CHANGED, old, new)


def hidden(value: Any, path: Path = ()) -> Iterator[tuple[Path, Unknown | Secret]]:
    """Where in `value` something is unknown or secret, so that a change of it would not be seen."""
    if isinstance(value, Unknown | Secret):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from hidden(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        labels = _labels(value) or [str(index) for index in range(len(value))]
        for index, item in enumerate(value):
            yield from hidden(item, (*path, Item(labels[index], index)))


def _secrets(old: Any, new: Any, path: Path) -> Iterator[Difference]:
    both = isinstance(old, Secret) and isinstance(new, Secret)
    if both and (UNKNOWN in (old.value, new.value) or not any(differences(old.value, new.value))):
        return
    # Neither is shown: what has become secret was shown before, but need not be again.
    yield Difference(path, Kind.CHANGED, Secret(UNKNOWN), Secret(UNKNOWN))


def _objects(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> Iterator[Difference]:
    for key in {**old, **new}:
        here = (*path, str(key))
        if key not in new:
            yield Difference(here, Kind.REMOVED, old[key], None)
        elif key not in old:
            yield Difference(here, Kind.ADDED, None, new[key])
        else:
            yield from differences(old[key], new[key], here)


def _lists(old: Sequence[Any], new: Sequence[Any], path: Path) -> Iterator[Difference]:
    olds, news = _labels(old), _labels(new)
    if olds and news:
        before, after = dict(zip(olds, old, strict=True)), dict(zip(news, new, strict=True))
        for label in {**before, **after}:
            index = news.index(label) if label in after else olds.index(label)
            here = (*path, Item(label, index))
            if label not in after:
                yield Difference(here, Kind.REMOVED, before[label], None)
            elif label not in before:
                yield Difference(here, Kind.ADDED, None, after[label])
            else:
                yield from differences(before[label], after[label], here)
    elif any(isinstance(item, Mapping | list) for item in (*old, *new)):
        for index in range(max(len(old), len(new))):
            here = (*path, Item(str(index), index))
            if index >= len(new):
                yield Difference(here, Kind.REMOVED, old[index], None)
            elif index >= len(old):
                yield Difference(here, Kind.ADDED, None, new[index])
            else:
                yield from differences(old[index], new[index], here)
    elif len(old) != len(new) or any(
        any(differences(one, other)) for one, other in zip(old, new, strict=True)
    ):
        yield Difference(path, Kind.CHANGED, list(old), list(new))


def _labels(items: Sequence[Any]) -> list[str]:
    """What tells the objects of a list apart; empty when nothing does."""
    if not items or not all(isinstance(item, Mapping) for item in items):
        return []
    for key in _IDENTIFYING:
        labels = [item.get(key) for item in items]
        if all(isinstance(label, str | int) for label in labels) and len(set(labels)) == len(labels):
            return [str(label) for label in labels]
    return []


def _texts(old: str, new: str, path: Path) -> Iterator[Difference]:
    before, after = _json(old), _json(new)
    if before is None or after is None or type(before) is not type(after):
        yield Difference(path, Kind.CHANGED, old, new)
    else:
        yield from differences(before, after, path)


def _json(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def shown(value: Any, limit: int = 120) -> str:
    """A value in one line of at most `limit` characters, secrets masked."""
    plain = masked(value)
    text = plain if isinstance(plain, str) else json.dumps(plain, default=str, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
