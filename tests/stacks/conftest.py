"""Plans of the cloud stacks, each made once."""

import pytest

from infra.plan import Plan, run

CLOUD = ("dev", "staging", "prod")


@pytest.fixture(scope="session")
def plans() -> dict[str, Plan]:
    """Plan of every cloud stack by its name."""
    return {stack: run(stack) for stack in CLOUD}


@pytest.fixture(params=CLOUD)
def plan(request: pytest.FixtureRequest, plans: dict[str, Plan]) -> Plan:
    """Each of them in turn."""
    return plans[request.param]
