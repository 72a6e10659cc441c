"""Engines on either database."""

import pytest

from app.events.registry import FAMILIES
from app.kit.database import Database
from tests.app.matching.machine import Machine, StrikingBus
from tests.app.patience import patience

__all__ = ["patience"]


@pytest.fixture
async def machine(database: Database) -> Machine:
    bus = StrikingBus()
    await bus.ensure([family.topic for family in FAMILIES.values()])
    made = Machine(database, bus)
    await made.fund("anna", "ben", "cara")
    return made
