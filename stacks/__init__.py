"""What each environment consists of."""

from infra.settings import CloudSettings, LocalSettings, StackSettings
from stacks.outputs import Outputs


def build(settings: StackSettings) -> Outputs:
    """Register the resources of the stack that `settings` describe."""
    # Imported here: the AWS provider's package takes seconds, and a local stack has no use for it.
    if isinstance(settings, CloudSettings):
        from stacks.cloud import build as cloud

        return cloud.build(settings)
    from stacks import local

    if isinstance(settings, LocalSettings):
        return local.build(settings)
    raise TypeError(f"no program for {type(settings).__name__}")
