"""Settings of a stack: the only reader of the engine's configuration."""

from infra.settings.load import SettingsError, load, parse
from infra.settings.model import NAMESPACES, StackSettings

__all__ = ["NAMESPACES", "SettingsError", "StackSettings", "load", "parse"]
