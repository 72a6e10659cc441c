"""The events of the platform as one AsyncAPI 3.0 document, made from the registry.

`python -m app events` prints it; docs/asyncapi.json is the committed copy.
"""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

import app
from app.events.envelope import Envelope
from app.events.registry import FAMILIES, Family

_DESCRIPTION = (
    "Everything that travels on the platform's bus: JSON, each event in the same envelope. The order of "
    "events is kept for each key. Delivery is at least once; the envelope's id tells a repetition. What old "
    "readers cannot take comes as a new version beside the old one."
)
_BINDING = "0.5.0"
"""Version of the Kafka bindings."""
_SCHEMAS = "#/components/schemas/"
_Json = dict[str, Any]


def import_all() -> None:
    """Import every module that registers events: those of this package, and `events` of each domain."""
    root = Path(app.__file__).parent
    for path in sorted((*root.glob("events/*.py"), *root.glob("*/**/events.py"))):
        parts = path.relative_to(root).with_suffix("").parts
        import_module(".".join((app.__name__, *(part for part in parts if part != "__init__"))))


def document(families: Mapping[str, Family] = FAMILIES) -> _Json:
    """The AsyncAPI document of what is registered: a channel for each topic, a message for each version.

    Payload schemas are what readers accept. Bindings are those of Kafka: key, partitions, retention.
    """
    models: list[type[BaseModel]] = [Envelope]
    models += [schema for family in families.values() for schema in family.schemas.values()]
    references, definitions = models_json_schema(
        [(model, "validation") for model in models],
        ref_template=_SCHEMAS + "{model}",
        schema_generator=_Described,
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tradestack events",
            "version": "1.0.0",
            "description": _DESCRIPTION,
        },
        "defaultContentType": "application/json",
        "channels": {_channel_name(name): _channel(family) for name, family in families.items()},
        "components": {
            "messages": {
                _message_name(type_, version): _message(
                    family, type_, version, references[model, "validation"], inspect.getdoc(model) or ""
                )
                for family in families.values()
                for (type_, version), model in sorted(family.schemas.items(), key=lambda item: item[0])
            },
            "schemas": dict(sorted(definitions["$defs"].items())),
        },
    }


def _channel(family: Family) -> _Json:
    topic = family.topic
    names = [_message_name(*identity) for identity in sorted(family.schemas)]
    return {
        "address": topic.name,
        "summary": family.summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": topic.retention_seconds * 1000,
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _message(family: Family, type_: str, version: int, payload: _Json, summary: str) -> _Json:
    filled = {"type": {"const": type_}, "version": {"const": version}, "payload": payload}
    return {
        "name": type_,
        "title": f"{type_} {version}",
        "summary": " ".join(summary.split()),
        "payload": {"allOf": [{"$ref": f"{_SCHEMAS}{Envelope.__name__}"}, {"properties": filled}]},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": f"The {family.key}, as in the envelope."},
                "bindingVersion": _BINDING,
            }
        },
    }


def _channel_name(topic: str) -> str:
    """Some tools take no dots in names; the address is the topic's own name."""
    return topic.replace(".", "-")


def _message_name(type_: str, version: int) -> str:
    return f"{type_}V{version}"


class _Described(GenerateJsonSchema):
    """JSON schemas as AsyncAPI takes them, with what the docstrings of the fields say."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Without the title, which is the name already."""
        made = super().model_schema(schema)
        made.pop("title", None)
        told = _field_docs(schema["cls"])
        properties = made.get("properties", {})
        for name, field in properties.items():
            if name in told and "$ref" in field:
                properties[name] = {"allOf": [field], "description": told[name]}
            elif name in told:
                field.setdefault("description", told[name])
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: titles would only be the names again."""
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """Without `discriminator`, which in AsyncAPI names schemas; constants of the members do that."""
        made = super().tagged_union_schema(schema)
        made.pop("discriminator", None)
        return made


def _field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Field → docstring below it, those of parents included."""
    told: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if not issubclass(parent, BaseModel) or parent is BaseModel:
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(parent))).body
        if not isinstance(definition, ast.ClassDef):
            continue
        for field, text in pairwise(definition.body):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                told[field.target.id] = " ".join(str(text.value.value).split())
    return told
