"""Control groups: every process of an instance is below the instance's own group, so that none is lost."""

import os
import signal
from contextlib import suppress
from pathlib import Path

_SUPERVISED = "system"
"""Group of the supervisor and what it starts; the kubelet makes `kubepods` beside it."""


def hierarchies() -> list[Path]:
    """Mount points of all control group hierarchies, of both versions."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] in {"cgroup", "cgroup2"}]


def controllers() -> set[str]:
    """Controllers that are mounted, in either version."""
    found: set[str] = set()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup":
            found |= set(options.split(","))
        elif kind == "cgroup2":
            found |= set((Path(mount) / "cgroup.controllers").read_text().split())
    return found


def enter(group: str) -> None:
    """Make `group` in every hierarchy and move this process into its part for supervised processes."""
    for root in hierarchies():
        for folder in (root / group, root / group / _SUPERVISED):
            folder.mkdir(exist_ok=True)
            _inherit_cpuset(folder)
        (root / group / _SUPERVISED / "cgroup.procs").write_text(str(os.getpid()))


def processes(group: str) -> set[int]:
    """Ids of all processes in `group` and below it."""
    return _members(group, "")


def container_processes(group: str) -> set[int]:
    """Ids of all processes that run in pods of `group`."""
    return _members(group, "kubepods")


def kill(group: str) -> None:
    """Send SIGKILL to everything in `group` but this process."""
    for process in processes(group) - {os.getpid()}:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def end(group: str) -> bool:
    """Kill what is in `group` and remove it from every hierarchy; False while something is still ending."""
    kill(group)
    try:
        for root in hierarchies():
            for folder, _, _ in os.walk(root / group, topdown=False):
                Path(folder).rmdir()
    except OSError:
        return False
    return True


def _members(group: str, part: str) -> set[int]:
    found: set[int] = set()
    for root in hierarchies():
        for folder, _, _ in os.walk(root / group / part):
            try:
                found |= {int(line) for line in (Path(folder) / "cgroup.procs").read_text().split()}
            except OSError:  # the group ended while it was read
                continue
    return found - {0}


def _inherit_cpuset(folder: Path) -> None:
    """Version 1 starts a group without CPUs, so that no process may enter it."""
    for key in ("cpuset.cpus", "cpuset.mems"):
        own = folder / key
        if own.exists() and not own.read_text().strip():
            value = (folder.parent / key).read_text().strip()
            if value:
                own.write_text(value)
