"""Read a stack's configuration and refuse it whole, with every reason, before anything is registered."""

import difflib
import json
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import pulumi
from pulumi.runtime import config as runtime_config
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from infra.errors import TradestackError
from infra.settings import checks, cloud_checks, local_checks  # noqa: F401 - they register their rules
from infra.settings.cloud import CloudSettings
from infra.settings.local import LocalSettings
from infra.settings.model import URL_PASSWORD, StackSettings
from infra.settings.quantities import Quantity
from infra.settings.rules import RULES, Problem

_NAMESPACES = ("pulumi", "kubernetes", "random", "aws")
"""Namespaces beside the project's: the engine's own, and those of the providers."""

_MODELS: Mapping[str, type[StackSettings]] = {"local": LocalSettings, "aws": CloudSettings}
"""Settings of each platform."""


class SettingsError(TradestackError):
    """A stack file that cannot be used; `problems` holds every reason."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        count = "1 setting is" if len(problems) == 1 else f"{len(problems)} settings are"
        lines = [f"{file}: {count} refused, nothing was changed", *(f"  {problem}" for problem in problems)]
        super().__init__("\n".join(lines))
        self.problems = problems


def load() -> StackSettings:
    """Settings of the current stack, from the engine's configuration.

    Raises:
        SettingsError: anything in it is not allowed; all reasons at once.
    """
    project = pulumi.get_project()
    given = {**runtime_config.get_config_env(), **runtime_config.CONFIG.get()}
    mine = {key.split(":", 1)[1]: value for key, value in given.items() if key.startswith(f"{project}:")}
    strange = sorted(key for key in given if key.split(":", 1)[0] not in {project, *_NAMESPACES})
    return parse(mine, file=f"Pulumi.{pulumi.get_stack()}.yaml", strange=strange)


def parse(given: Mapping[str, object], *, file: str, strange: Sequence[str] = ()) -> StackSettings:
    """Settings from the keys below the project's namespace; `strange` are keys of namespaces nobody reads.

    The engine hands objects and lists over as JSON text and everything else as plain text.

    Raises:
        SettingsError: anything is not allowed; all reasons at once, with `file` named.
    """
    values = {key: _decode(value) for key, value in given.items()}
    platform = values.get("platform")
    # A platform that is not known is told; the other keys are then read as a local stack's.
    model = _MODELS.get(str(platform), LocalSettings)
    problems: list[Problem] = []
    wrong: set[str] = set()
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = [_problem(model, item) for item in found]
        wrong = {str(item["loc"][0]) for item in found}
        settings = model.model_validate({**_stand_ins(model), **_without(values, wrong)})
    problems += [
        problem
        for rule in RULES
        if isinstance(settings, rule.model) and not rule.keys & wrong
        for problem in rule.check(settings)
    ]
    problems += [Problem(key, "unknown namespace", _namespaces(), whole=True) for key in strange]
    if problems:
        raise SettingsError(file, problems)
    return settings


def _without(values: Mapping[str, object], keys: set[str]) -> dict[str, object]:
    return {key: value for key, value in values.items() if key not in keys}


def _stand_ins(model: type[StackSettings]) -> dict[str, object]:
    """A valid value for every key that must be given; rules that read a wrong key are left out anyway."""
    stand_ins: dict[str, object] = {}
    for field in model.model_fields.values():
        if field.is_required():
            stand_ins[str(field.alias)] = (field.examples or list(get_args(field.annotation)))[0]
    return stand_ins


def _namespaces() -> str:
    return ", ".join(f"{name}:" for name in ("tradestack", *_NAMESPACES))


def _decode(value: object) -> object:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _problem(model: type[StackSettings], error: ErrorDetails) -> Problem:
    path = tuple(part for part in error["loc"] if part != "[key]")
    key = ".".join(str(part) for part in path)
    context = error.get("ctx", {})
    if path != error["loc"]:
        return Problem(key, "unknown name", context["allowed"])
    match error["type"]:
        case "not_allowed":
            return Problem(key, _shown(error["input"]), context["allowed"])
        case "literal_error" | "missing" if path == ("platform",):
            given = "missing" if error["type"] == "missing" else _shown(error["input"])
            return Problem(key, given, ", ".join(_MODELS))
        case "literal_error":
            return Problem(
                key, _shown(error["input"]), context["expected"].replace("'", "").replace(" or ", ", ")
            )
        case "missing":
            return Problem(key, "missing", _kind(model, path))
        case "extra_forbidden":
            return Problem(key, "unknown key", _known(model, path))
        case _:
            return Problem(key, _shown(error["input"]), _kind(model, path))


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return URL_PASSWORD.sub(r"\1***", text)


def _at(model: type[BaseModel], path: tuple[int | str, ...]) -> object:
    """The type that is declared at `path`, or None where nothing is."""
    found: object = model
    for part in path:
        if isinstance(found, type) and issubclass(found, BaseModel):
            found = {field.alias: field.annotation for field in found.model_fields.values()}.get(str(part))
        else:
            # The value type of a mapping, the item type of a list.
            found = next(reversed([kind for kind in get_args(found) if kind is not Ellipsis]), None)
        found = _unwrapped(found)
    return found


def _unwrapped(annotation: object) -> object:
    """`annotation` without Annotated and without None."""
    if get_origin(annotation) is Annotated:
        return _unwrapped(get_args(annotation)[0])
    if isinstance(annotation, UnionType):
        return _unwrapped(next(kind for kind in get_args(annotation) if kind is not NoneType))
    return annotation


def _section(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model that describes the object at `path`, if it is one."""
    found = _at(model, path)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _keys(section: type[BaseModel]) -> list[str]:
    return [str(field.alias) for field in section.model_fields.values()]


def _allowed(field: FieldInfo) -> str:
    """What the validators of `field` say that they take."""
    try:
        annotated: Any = Annotated[field.annotation, *field.metadata]
        TypeAdapter(annotated).validate_python("")
    except ValidationError as error:
        return str(error.errors()[0].get("ctx", {}).get("allowed", "a text"))
    return "a text"


def _known(model: type[BaseModel], path: tuple[int | str, ...]) -> str:
    section = _section(model, path[:-1])
    keys = _keys(section) if section else []
    near = difflib.get_close_matches(str(path[-1]).lower(), [key.lower() for key in keys], n=1)
    guess = next((f"; did you mean '{key}'?" for key in keys if [key.lower()] == near), "")
    return ", ".join(keys) + guess


def _kind(model: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """What belongs at `path`, in words."""
    section, found = _section(model, path), _at(model, path)
    if section is not None:
        return "an object with the keys " + ", ".join(_keys(section))
    owner = _section(model, path[:-1])
    field = (
        next((item for item in owner.model_fields.values() if item.alias == path[-1]), None)
        if owner
        else None
    )
    if field is not None and field.metadata:
        return _allowed(field)
    if isinstance(found, type) and issubclass(found, Quantity):
        return found.allowed
    if get_origin(found) is Literal:
        return ", ".join(get_args(found))
    names: dict[object, str] = {int: "a whole number", tuple: "a list", dict: "an object"}
    return names.get(get_origin(found) or found, "a text")
