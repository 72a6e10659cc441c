"""A stack on AWS."""

from stacks.cloud.build import build

__all__ = ["build"]
