"""Binaries are found by content and built once."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from infra.cluster import binaries
from infra.errors import TradestackError
from infra.progress import Steps


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_an_unknown_program_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TradestackError, match="unknown program 'nosuch'; known are kube, etcd"):
        binaries.path("nosuch", Steps(quiet=True))


def test_every_program_has_its_own_content_hash() -> None:
    hashes = {binaries.content_hash(name) for name in binaries.PROGRAMS}
    assert len(hashes) == len(binaries.PROGRAMS)


def test_the_module_names_the_versions_that_are_promised() -> None:
    node = (binaries.SOURCES / "go.mod").read_text()
    assert f"k8s.io/kubernetes v{binaries.KUBERNETES_VERSION}" in node
    for module in {program.module for program in binaries.PROGRAMS.values()}:
        assert f"go {'.'.join(map(str, module.minimum_go))}\n" in (module.folder / "go.mod").read_text()
        wheel = module.go_wheel.partition("==")[2]
        assert tuple(map(int, wheel.split("."))) >= module.minimum_go


def test_a_program_follows_its_own_module_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new version of a controller must not build Kubernetes again."""
    sources = tmp_path / "go"
    shutil.copytree(binaries.SOURCES, sources)
    before = {name: binaries.content_hash(name) for name in binaries.PROGRAMS}
    moved = {
        name: replace(
            program,
            module=replace(
                program.module, folder=sources / program.module.folder.relative_to(binaries.SOURCES)
            ),
        )
        for name, program in binaries.PROGRAMS.items()
    }
    monkeypatch.setattr(binaries, "PROGRAMS", moved)
    with (sources / "addons" / "go.sum").open("a") as file:
        file.write("example.com/new v1.0.0 h1:AAAA\n")
    binaries.content_hash.cache_clear()
    try:
        changed = {name for name in before if binaries.content_hash(name) != before[name]}
    finally:
        binaries.content_hash.cache_clear()
    assert changed == {"envoy-gateway", "keda-adapter", "keda-operator"}


def test_an_older_go_serves_the_modules_that_it_is_new_enough_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "go_version", lambda tool: binaries.NODE.minimum_go)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/go")
    assert binaries.installed_go(binaries.NODE) == Path("/usr/bin/go")
    assert binaries.installed_go(binaries.CONTROLLERS) is None


def test_two_callers_at_a_time_build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[str] = []

    def build(tool: Path, name: str, target: Path) -> None:
        builds.append(name)
        target.write_text("binary")

    monkeypatch.setattr(binaries, "_build", build)
    monkeypatch.setattr(binaries, "installed_go", lambda module: Path("/usr/bin/true"))
    found: list[Path] = []
    callers = [
        threading.Thread(target=lambda: found.append(binaries.path("pause", Steps(quiet=True))))
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert builds == ["pause"]
    assert set(found) == {binaries.cached_path("pause")}


def test_a_failed_build_leaves_nothing_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "installed_go", lambda module: Path("/bin/false"))
    with pytest.raises(TradestackError, match="exit code 1"):
        binaries.path("pause", Steps(quiet=True))
    assert not binaries.cached_path("pause").exists()
