"""Where Tradestack keeps files outside the repository."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
"""Root of the checkout: holds Pulumi.yaml and the stack files."""


def _xdg(variable: str, default: str) -> Path:
    """Directory of the XDG Base Directory specification, with its default below the home directory."""
    configured = os.environ.get(variable, "")
    return Path(configured) if configured.startswith("/") else Path.home() / default


def cache_dir() -> Path:
    """Build products that can be made again, named by the content they were made from."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "tradestack"


def state_dir() -> Path:
    """What must outlive a reboot: cluster state, volumes, passphrases. `TRADESTACK_STATE_DIR` moves it."""
    override = os.environ.get("TRADESTACK_STATE_DIR")
    return Path(override) if override else _xdg("XDG_STATE_HOME", ".local/state") / "tradestack"
