"""Reads the inputs of a planned resource; what is unknown before deployment is noted."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from infra.plan.model import PlannedResource, Secret, Unknown


class Undetermined(Exception):
    """An input without which nothing can be said is known only after deployment."""


class Inputs:
    """Inputs of one resource by path, such as `scalingConfig.desiredSize`.

    A list on the way stands for its first element, as AWS writes single blocks.
    """

    def __init__(self, resource: PlannedResource, notes: list[str]) -> None:
        """Read `resource`; remarks go to `notes`."""
        self.resource = resource
        self._notes = notes

    def text(self, path: str, default: str | None = None) -> str:
        """Text at `path`; without a default it must be there.

        Raises:
            Undetermined: there is no default, and the value is missing or unknown.
        """
        value = self.value(path)
        if value is None or isinstance(value, Unknown):
            if default is None:
                raise Undetermined(f"{path} is {'unknown until deployed' if value else 'not given'}")
            if value is not None:
                self._assumed(path, default)
            return default
        return str(value)

    def number(self, path: str, default: Decimal | int | None = None) -> Decimal:
        """Number at `path`, which may be written as text; without a default it must be there.

        Raises:
            Undetermined: there is no default, and the value is missing or unknown.
        """
        text = self.text(path, None if default is None else str(default))
        try:
            return Decimal(text)
        except InvalidOperation:
            raise Undetermined(f"{path} is no number: {text!r}") from None

    def flag(self, path: str) -> bool:
        """Whether `path` is true; missing is false."""
        return self.text(path, "False").lower() == "true"

    def items(self, path: str, default: int = 0) -> list[Any]:
        """Elements of the list at `path`; `default` unknown ones when only AWS can tell how many."""
        value = self.value(path)
        if isinstance(value, Unknown):
            self._assumed(path, f"{default} elements")
            return [value] * default
        return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []

    def value(self, path: str) -> Any:
        """What is at `path`: None when missing, unknown as such, secrets in the clear."""
        found: Any = self.resource.inputs
        for key in path.split("."):
            found = plain(found)
            if isinstance(found, Unknown):
                return found
            if isinstance(found, list | tuple):
                found = plain(found[0]) if found else None
            found = found.get(key) if isinstance(found, Mapping) else None
        return plain(found)

    def _assumed(self, path: str, what: object) -> None:
        self._notes.append(
            f"{self.resource.name} ({self.resource.type}): {path} is known only after deployment; "
            f"counted as {what}"
        )


def plain(value: Any) -> Any:
    """`value` out of its secret wrapping."""
    return plain(value.value) if isinstance(value, Secret) else value
