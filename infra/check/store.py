"""What is expensive to make is made once and kept in the cache, whole or not at all."""

import fcntl
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from infra.paths import cache_dir

_DONE = "complete"


def content_hash(parts: Iterable[str | bytes]) -> str:
    """16 hexadecimal digits that change when any part changes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


def ensure(kind: str, content: str, make: Callable[[Path], None]) -> Path:
    """The folder `<kind>-<content>` of the cache; `make` fills it at its final place on a miss.

    Two callers at a time are safe: the second one waits. What a killed run left is made again.
    """
    folder = cache_dir() / "check" / f"{kind}-{content}"
    if (folder / _DONE).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (folder / _DONE).exists():
            make(folder)
            (folder / _DONE).touch()
    return folder


def results() -> Path:
    """The folder of earlier results."""
    folder = cache_dir() / "check" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
