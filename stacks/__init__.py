"""What each environment consists of."""

from collections.abc import Callable, Mapping

from infra.settings import StackSettings
from stacks import local
from stacks.outputs import Outputs

PROGRAMS: Mapping[str, Callable[[StackSettings], Outputs]] = {"local": local.build}
"""The program of each platform."""


def build(settings: StackSettings) -> Outputs:
    """Register the resources of the stack that `settings` describe."""
    return PROGRAMS[settings.platform](settings)
