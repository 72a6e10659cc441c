"""Settings of a stack: the only reader of the engine's configuration."""

from infra.settings.cloud import CloudSettings
from infra.settings.load import SettingsError, load, parse
from infra.settings.local import LocalSettings
from infra.settings.model import NAMESPACES, StackSettings

__all__ = ["NAMESPACES", "CloudSettings", "LocalSettings", "SettingsError", "StackSettings", "load", "parse"]
