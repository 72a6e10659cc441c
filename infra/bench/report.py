"""The common form of a benchmark's result."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from infra.paths import REPOSITORY

RESULTS = REPOSITORY / "bench" / "results"
"""Where results are kept."""


@dataclass(frozen=True)
class Report:
    """One benchmark's result; the fields are those of the command line contract."""

    name: str
    ours: dict[str, Any]
    versions: dict[str, str]
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    ratio: float | None = None
    """ours ÷ best peer, in the direction where more is better; None without a peer."""

    def as_json(self) -> str:
        """One JSON object."""
        body = {
            "name": self.name,
            "machine": machine(),
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return json.dumps({**body, **asdict(self)}, indent=2)

    def save(self) -> Path:
        """Write the result to `bench/results/<name>.json`."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        path.write_text(self.as_json() + "\n")
        return path


def machine() -> dict[str, Any]:
    """The machine in figures: processor model, cores, memory in GiB, kernel, 1-minute load at the time."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def versions(packages: Iterable[str], **others: str) -> Mapping[str, str]:
    """Versions of Python and of the named Python packages, and `others` as given."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}, **others}


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
