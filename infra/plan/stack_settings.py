"""The settings that a plan was made from."""

from infra.plan import stackfile
from infra.plan.model import Plan
from infra.settings import StackSettings, parse


def settings_of(plan: Plan) -> StackSettings:
    """What the plan's stack file says.

    Raises:
        TradestackError: the file cannot be read, or its settings are refused.
    """
    given = stackfile.configuration(plan.settings_file)
    mine = {key.split(":", 1)[1]: value for key, value in given.items() if key.startswith(f"{plan.project}:")}
    return parse(mine, file=plan.settings_file.name)


def relaxations(plan: Plan) -> dict[str, str]:
    """Security assertions that the stack does without, each with its reason."""
    return dict(getattr(settings_of(plan), "relax", {}))


def usage(plan: Plan) -> dict[str, float]:
    """Assumptions of the cost estimate that the stack knows better, by name."""
    return dict(getattr(settings_of(plan), "usage", {}))
