"""The Pulumi program: settings, stack, outputs."""

import pulumi

from infra import settings
from infra.errors import TradestackError


def main() -> None:
    """Register the current stack's resources; nothing, unless all of its settings are valid."""
    try:
        stack = settings.load()
        # Imported late: a stack file that is refused need not wait for the providers' packages.
        import stacks

        stacks.build(stack).export()
    except TradestackError as error:
        raise pulumi.RunError(str(error)) from error


if __name__ == "__main__":
    main()
