"""Which build of the exchange runs: the modules as they stand, or extensions compiled from exactly them.

`app.exchange.compile` puts the extensions beside the packages of this Python, in a folder that is named by
what they were made from. Whoever changes a source afterwards runs the source.
"""

import os
import sysconfig
from hashlib import sha256
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent
INTERPRETED: Final = frozenset({"__init__", "build", "compile", "terms"})
"""Modules that stay as they are; enumerations gain nothing from being compiled."""
PURE: Final = "APP_EXCHANGE_PURE"
"""Environment variable: anything but nothing or 0 keeps compiled extensions out."""


def folder() -> Path:
    """Where extensions made from the present sources for this Python belong; it need not exist."""
    digest = sha256(str(sysconfig.get_config_var("EXT_SUFFIX")).encode())
    for path in sorted((*SOURCES.glob("*.py"), SOURCES / "requirements.txt")):
        content = path.read_bytes()
        digest.update(f"\0{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return Path(sysconfig.get_path("platlib")) / f"app_exchange_compiled-{digest.hexdigest()[:16]}"


def search_path() -> list[str]:
    """Folders in which modules of this package are looked for before the sources."""
    if os.environ.get(PURE, "0") not in ("", "0"):
        return []
    compiled = folder()
    return [str(compiled)] if compiled.is_dir() else []
