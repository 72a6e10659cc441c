"""Values that AWS fills into a resource's nested outputs."""

from collections.abc import Callable
from typing import TypeVar

from pulumi import Output

_Found = TypeVar("_Found")


def computed(output: Output[_Found], read: Callable[[_Found], str]) -> Output[str]:
    """What `read` finds in a nested output; empty where nothing computes it, as under Pulumi's mocks."""
    return output.apply(lambda found: read(found) if found else "")
