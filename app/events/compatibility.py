"""What in a newer AsyncAPI document readers or writers of the older one cannot take."""

from typing import Any

_Json = dict[str, Any]
_UNIONS = ("anyOf", "oneOf", "allOf")


def breaks(old: _Json, new: _Json) -> list[str]:
    """Every change that needed a new version of its event; empty when there is none.

    An event and a topic stay, with the key. A field stays, with its type, and so do the values it can have.
    A new field is optional: events without it are still kept by the broker. Bounds, defaults and words may
    change.
    """
    found = []
    for name, channel in old["channels"].items():
        present = new["channels"].get(name)
        if present is None or present["address"] != channel["address"]:
            found.append(f"{channel['address']}: the topic is gone")
    for name, message in old["components"]["messages"].items():
        present = new["components"]["messages"].get(name)
        if present is None:
            found.append(f"{name}: the event is gone")
            continue
        if present["bindings"]["kafka"]["key"] != message["bindings"]["kafka"]["key"]:
            found.append(f"{name}: ordered by another key")
        found += _differences(_content(message), _content(present), name, old, new)
    envelope = {"$ref": "#/components/schemas/Envelope"}
    return found + _differences(envelope, envelope, "Envelope", old, new)


def _content(message: _Json) -> _Json:
    """What the envelope of a message holds."""
    held: _Json = message["payload"]["allOf"][1]["properties"]["payload"]
    return held


def _differences(before: _Json, after: _Json, path: str, old: _Json, new: _Json) -> list[str]:
    comparison = _Comparison(old, new)
    comparison.compare(before, after, path)
    return comparison.found


class _Comparison:
    """Of one event; schemas that are met again are not compared again."""

    def __init__(self, old: _Json, new: _Json) -> None:
        self.found: list[str] = []
        self._old, self._new = old, new
        self._met: set[tuple[str, str]] = set()

    def compare(self, old: _Json, new: _Json, path: str) -> None:
        """Note what breaks between two schemas at a path."""
        old, new = _plain(old), _plain(new)
        if "$ref" in old and "$ref" in new:
            pair = (old["$ref"], new["$ref"])
            if pair in self._met:
                return
            self._met.add(pair)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        for word in ("type", "format", "const"):
            if old.get(word) != new.get(word):
                self.found.append(f"{path}: {word} is {new.get(word)}, was {old.get(word)}")
        if set(map(str, old.get("enum", ()))) != set(map(str, new.get("enum", ()))):
            self.found.append(f"{path}: values are {new.get('enum')}, were {old.get('enum')}")
        for word in _UNIONS:
            self._compare_members(old.get(word, []), new.get(word, []), path)
        self._compare_fields(old, new, path)
        for word, step in (("items", "[]"), ("additionalProperties", "{}")):
            before, after = old.get(word), new.get(word)
            if isinstance(before, dict) and isinstance(after, dict):
                self.compare(before, after, path + step)
            elif before != after:
                self.found.append(f"{path}{step}: is {after}, was {before}")

    def _compare_members(self, old: list[_Json], new: list[_Json], path: str) -> None:
        if len(old) != len(new):
            self.found.append(f"{path}: {len(new)} kinds, were {len(old)}")
            return
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            self.compare(before, after, f"{path}({number})" if len(old) > 1 else path)

    def _compare_fields(self, old: _Json, new: _Json, path: str) -> None:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, field in before.items():
            if name in after:
                self.compare(field, after[name], f"{path}.{name}")
            else:
                self.found.append(f"{path}.{name}: the field is gone")
        for name in sorted({*new.get("required", ())} - {*old.get("required", ())}):
            self.found.append(f"{path}.{name}: now required")


def _plain(schema: _Json) -> _Json:
    """A reference that stands alone in an `allOf` only to have a description is that reference."""
    members = schema.get("allOf", [])
    if len(members) == 1 and not schema.keys() - {"allOf", "description", "default"}:
        return dict(members[0])
    return schema


def _resolved(schema: _Json, document: _Json) -> _Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema
