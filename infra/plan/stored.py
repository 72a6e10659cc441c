"""A plan read back from the JSON document that `plan --json` wrote."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from infra.errors import TradestackError
from infra.paths import REPOSITORY
from infra.plan import stackfile
from infra.plan.model import UNKNOWN, Options, Plan, PlannedResource, Secret


def load(path: Path) -> Plan:
    """The plan in a file.

    Secrets are masked in a document: they come back as secrets whose value nobody knows, and are equal to any
    other secret.

    Raises:
        TradestackError: the file cannot be read or holds no plan.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TradestackError(f"{path}: {getattr(error, 'strerror', None) or 'is not text'}") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Plan:
    """The plan in `text`, which errors call `name`.

    Raises:
        TradestackError: the text holds no plan.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TradestackError(f"{name} is no plan: it is not JSON ({error})", hint=_HINT) from error
    if not isinstance(content, Mapping) or not isinstance(content.get("resources"), list):
        raise TradestackError(f"{name} is no plan: it has no list 'resources'", hint=_HINT)
    try:
        return _plan(content)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise TradestackError(
            f"{name} is no plan: a resource is incomplete ({error!r})", hint=_HINT
        ) from error


_HINT = "tradestack plan STACK --json > FILE"


def _plan(content: Mapping[str, Any]) -> Plan:
    resources = tuple(_resource(item) for item in content["resources"])
    stack = str(content["stack"])
    project = resources[0].urn.split("::")[1] if resources else stackfile.project()
    return Plan(
        stack=stack,
        project=project,
        resources=resources,
        outputs=_revived(content.get("outputs") or {}),
        settings_file=REPOSITORY / f"Pulumi.{stack}.yaml",
    )


def _resource(item: Mapping[str, Any]) -> PlannedResource:
    depends = item.get("propertyDependencies") or {}
    return PlannedResource(
        urn=str(item["urn"]),
        type=str(item["type"]),
        name=str(item["name"]),
        parent=str(item["parent"]),
        custom=bool(item.get("custom", True)),
        inputs=_revived(dict(item["inputs"])),
        dependencies=tuple(item["dependencies"]),
        property_dependencies={name: tuple(urns) for name, urns in depends.items()},
        provider=str(item.get("provider", "")),
        options=_options(item),
        outputs=_revived(item.get("outputs") or {}),
    )


def _options(item: Mapping[str, Any]) -> Options:
    given = dict(item.get("options") or {"protect": bool(item.get("protect"))})
    known = {field.name for field in fields(Options)}
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if name in known
    }
    return Options(**kept)


def _revived(value: Any) -> Any:
    if isinstance(value, str):
        return {"[secret]": Secret(UNKNOWN), "[unknown]": UNKNOWN}.get(value, value)
    if isinstance(value, Mapping):
        return {key: _revived(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_revived(item) for item in value]
    return value
