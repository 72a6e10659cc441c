"""The plan of a stack: its program run with no engine, no credentials and no network."""

from infra.plan.model import UNKNOWN, Plan, PlannedResource, Secret, masked, revealed
from infra.plan.runner import run

__all__ = ["UNKNOWN", "Plan", "PlannedResource", "Secret", "masked", "revealed", "run"]
