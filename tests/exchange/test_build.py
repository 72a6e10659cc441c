"""The compiled build and the sources behave alike, and a changed source is never hidden by an old build."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.exchange import COMPILED, build
from app.exchange import compile as compiler
from infra.paths import REPOSITORY

compiled = pytest.mark.skipif(not build.folder().is_dir(), reason="no compiled build: no C compiler here")


def python(*arguments: str, root: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != build.PURE}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**inherited, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def loaded(root: Path, **environment: str) -> str:
    code = "import app.exchange as one; print(one.COMPILED, one.__file__)"
    answer, _, file = python("-c", code, root=root, **environment).stdout.strip().partition(" ")
    assert Path(file).is_relative_to(root)
    return answer


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The same sources elsewhere."""
    shutil.copytree(
        REPOSITORY / "app" / "exchange",
        tmp_path / "app" / "exchange",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (tmp_path / "app" / "__init__.py").touch()
    return tmp_path


@compiled
@pytest.mark.timeout(1200)
def test_the_other_build_passes_the_same_tests() -> None:
    other = {build.PURE: "1" if COMPILED else "0"}
    assert loaded(REPOSITORY, **other) == str(not COMPILED)
    tests = ["tests/exchange", f"--ignore={__file__}", "-m", "not soak", "-q", "-p", "no:cacheprovider"]
    done = python("-m", "pytest", *tests, **other)
    assert done.returncode == 0, done.stdout + done.stderr


@compiled
@pytest.mark.parametrize(("wanted", "expected"), [("", "True"), ("0", "True"), ("1", "False")])
def test_the_environment_keeps_the_compiled_build_out(wanted: str, expected: str) -> None:
    assert loaded(REPOSITORY, **{build.PURE: wanted}) == expected


@compiled
@pytest.mark.parametrize("changed", ["engine.py", "terms.py", "requirements.txt"])
def test_a_changed_source_is_what_runs(copy: Path, changed: str) -> None:
    assert loaded(copy) == "True"
    with (copy / "app" / "exchange" / changed).open("a") as file:
        file.write("# changed\n")
    assert loaded(copy) == "False"


@compiled
def test_a_build_comes_from_the_cache_and_replaces_that_of_other_sources(tmp_path: Path) -> None:
    cache, site = tmp_path / "cache", tmp_path / "site"
    target = site / build.folder().name
    stale, foreign = site / "app_exchange_compiled-0123456789abcdef", site / "another_package"
    for folder in (stale, foreign):
        folder.mkdir(parents=True)
    shutil.copytree(build.folder(), cache / target.name)
    compiler.install(target, cache)
    assert {path.name for path in target.iterdir()} == {path.name for path in build.folder().iterdir()}
    assert (stale.exists(), foreign.exists()) == (False, True)


def test_a_cache_keeps_the_newest_builds(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    names = [f"app_exchange_compiled-{number:016x}" for number in range(5)]
    for age, name in enumerate(reversed(names)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (1_000_000 - age, 1_000_000 - age))
    compiler._forget(cache, cache / names[0], 3)
    assert sorted(path.name for path in cache.iterdir()) == [names[0], names[3], names[4]]


def test_without_a_compiler_it_says_so_and_the_sources_run(copy: Path) -> None:
    (copy / "app" / "exchange" / "engine.py").open("a").write("# changed\n")
    done = python("-m", "app.exchange.compile", root=copy, CC="/nonexistent/cc")
    assert done.returncode == 1
    told = done.stderr.splitlines()[-1]
    assert told.startswith("the exchange is not compiled and runs as plain Python, slower: ")
    assert "/nonexistent/cc" in told
    assert loaded(copy) == "False"
