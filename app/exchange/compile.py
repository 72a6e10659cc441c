"""`python -m app.exchange.compile [--cache FOLDER]`: make the compiled build and put it where it is found.

Needs the packages in requirements.txt of this folder, a C compiler and the headers of Python. Where it cannot
be made, the exit code is 1, one line says why, and the exchange runs as it stands.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from app.exchange.build import INTERPRETED, SOURCES, folder

_KEPT: Final = 3
"""Builds that a cache holds."""
_GROUP: Final = "app.exchange.core"
"""Name of the library that all modules share; inside the package, so that it is found with them."""

# Without debug information, which would hold the path of the build: equal sources give equal files.
_SETUP: Final = f"""
import sys
from mypyc.build import mypycify
from setuptools import setup
extensions = mypycify(sys.argv[1:], group_name={_GROUP!r}, opt_level="3", debug_level="0")
setup(
    name="exchange", ext_modules=extensions,
    script_args=["build_ext", "--build-lib=made", "--build-temp=work"],
)
"""


class CompileError(Exception):
    """The extensions cannot be made."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m app.exchange.compile", description="Compile the exchange."
    )
    parser.add_argument("--cache", type=Path, help="keep what is made here, and take it from here if it can")
    options = parser.parse_args(arguments)
    try:
        install(folder(), options.cache)
    except (CompileError, OSError) as error:
        print(f"the exchange is not compiled and runs as plain Python, slower: {error}", file=sys.stderr)
        return 1
    return 0


def install(target: Path, cache: Path | None = None) -> None:
    """Put the extensions into `target` unless they are there, and remove those of other sources.

    Raises:
        CompileError: they cannot be made; the message is the first error.
        OSError: a folder cannot be written.
    """
    if target.is_dir():
        return
    if cache is None:
        _fill(target, _compile)
    else:
        kept = cache / target.name
        if not kept.is_dir():
            _fill(kept, _compile)
        _fill(target, lambda work: Path(shutil.copytree(kept, work / "made")))
        _forget(cache, kept, _KEPT)
    _forget(target.parent, target, 1)


def _fill(target: Path, make: Callable[[Path], Path]) -> None:
    """Let `make` work in a folder beside the target and rename what it made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".compile-") as work:
        made = make(Path(work))
        try:
            made.rename(target)
        except OSError:
            # Another process was faster.
            if not target.is_dir():
                raise


def _compile(work: Path) -> Path:
    package = work / "app" / "exchange"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    for source in SOURCES.glob("*.py"):
        shutil.copyfile(source, package / source.name)
    modules = sorted(path for path in package.glob("*.py") if path.stem not in INTERPRETED)
    names = [str(path.relative_to(work)) for path in modules]
    print("compiling the exchange, about 15 s", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-c", _SETUP, *names], cwd=work, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = [*done.stderr.splitlines(), *done.stdout.splitlines()]
        told = next((line for line in lines if "error:" in line.lower()), f"exit code {done.returncode}")
        raise CompileError(told.strip())
    return work / "made" / "app" / "exchange"


def _forget(parent: Path, present: Path, keep: int) -> None:
    """Remove all but the newest builds; the present one counts as the newest."""
    others = [path for path in parent.glob(f"{present.name.rpartition('-')[0]}-*") if path != present]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[keep - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
