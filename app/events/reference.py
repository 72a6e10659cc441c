"""The reference of all events for people, made from the AsyncAPI document."""

from collections.abc import Iterator
from typing import Any

_Json = dict[str, Any]
_ATOMS = {"integer": "whole number", "string": "text", "boolean": "true or false", "null": "nothing"}


def markdown(document: _Json) -> str:
    """docs/events.md: each topic and its retention, each event and its fields, then what they hold."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: _Json) -> Iterator[str]:
    components = document["components"]
    yield "# Events"
    yield ""
    yield "Made by `python -m app events --markdown` from the registry; [asyncapi.json](asyncapi.json) is the"
    yield "same for programs."
    yield ""
    yield document["info"]["description"]
    yield ""
    yield "Every message is an envelope around one event:"
    yield ""
    yield from _table(components["schemas"]["Envelope"])
    told: set[str] = set()
    for channel in document["channels"].values():
        settings = channel["bindings"]["kafka"]
        hours = settings["topicConfiguration"]["retention.ms"] // 3_600_000
        messages = [components["messages"][name] for name in channel["messages"]]
        yield ""
        yield f"## {channel['address']}"
        yield ""
        yield f"{channel['summary']}. {settings['partitions']} partitions, kept for {hours} hours."
        for message in messages:
            payload = _name(message["payload"]["allOf"][1]["properties"]["payload"])
            told.add(payload)
            yield ""
            yield f"### {message['title']}"
            yield ""
            yield f"{message['summary']} Key: {message['bindings']['kafka']['key']['description']}"
            yield ""
            yield from _table(components["schemas"][payload])
    yield ""
    yield "## Parts"
    for name, schema in components["schemas"].items():
        if name not in told and name != "Envelope":
            yield ""
            yield f"### {_short(name)}"
            yield ""
            yield schema.get("description", "")
            yield ""
            yield from _table(schema)


def _table(schema: _Json) -> Iterator[str]:
    yield "| field | type | |"
    yield "|---|---|---|"
    for name, field in schema.get("properties", {}).items():
        optional = "" if name in schema.get("required", ()) else " (optional)"
        yield f"| `{name}`{optional} | {_type(field)} | {field.get('description', '')} |"


def _type(schema: _Json) -> str:
    if "$ref" in schema:
        return _short(_name(schema))
    for words, joined in (("anyOf", " or "), ("oneOf", ", "), ("allOf", " and ")):
        if words in schema:
            return joined.join(_type(member) for member in schema[words])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"name → {_type(values)}" if isinstance(values, dict) else kind
    return str(schema.get("format", _ATOMS.get(kind, kind)))


def _name(reference: _Json) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _short(name: str) -> str:
    """The class alone, where two modules have one of that name."""
    return name.rpartition("__")[2]
