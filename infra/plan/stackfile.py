"""Stack files, read as the engine reads them."""

import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.errors import TradestackError
from infra.paths import REPOSITORY


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that is given twice, as the engine does; YAML alone would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; see the class."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key}' is no text", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key}' is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def locate(stack: str) -> Path:
    """Path of the stack's file.

    Raises:
        TradestackError: there is no such stack; names those that exist.
    """
    path = REPOSITORY / f"Pulumi.{stack}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", stack) or not path.is_file():
        known = ", ".join(stacks())
        raise TradestackError(f"there is no stack '{stack}': {path.name} does not exist (stacks: {known})")
    return path


def stacks() -> list[str]:
    """Names of all stacks, from the files beside Pulumi.yaml."""
    return sorted(path.name.split(".")[1] for path in REPOSITORY.glob("Pulumi.*.yaml"))


def project() -> str:
    """Name of the Pulumi project."""
    return str(_read(REPOSITORY / "Pulumi.yaml")["name"])


def configuration(path: Path) -> dict[str, str]:
    """Keys and values of a stack file as the engine hands them over: objects and lists as JSON text.

    Raises:
        TradestackError: the file cannot be read, or a value in it is encrypted.
    """
    content = _read(path)
    given = content.get("config") or {}
    if not isinstance(given, Mapping):
        raise TradestackError(f"{path.name}: 'config' is not an object of keys and values")
    values: dict[str, str] = {}
    for key, value in given.items():
        if ":" not in str(key):
            raise TradestackError(f"{path.name}: the key '{key}' has no namespace; write 'tradestack:{key}'")
        if isinstance(value, Mapping) and set(value) == {"secure"}:
            raise TradestackError(f"{path.name}: '{key}' is encrypted; only the engine can read it")
        try:
            values[str(key)] = _text(value)
        except (ValueError, TypeError, RecursionError) as error:
            raise TradestackError(f"{path.name}: the value of '{key}' is not usable: {error}") from error
    return values


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, default=str)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 - derived from the safe loader
    except OSError as error:
        raise TradestackError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise TradestackError(f"{path.name} is not valid YAML: {error}") from error
    except (ValueError, RecursionError) as error:
        # Text that is not UTF-8, dates and numbers that do not exist.
        raise TradestackError(f"{path.name} cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise TradestackError(f"{path.name} is not an object of keys and values")
    return content
