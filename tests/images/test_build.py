import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.errors import TradestackError
from infra.images import build, catalog, engines
from infra.images.engines import Backend
from infra.process import run
from infra.progress import Steps

# Answers like a Docker engine with an empty store and records how it was called.
_DOCKER = """#!/bin/sh
echo "$@" >> "$RECORD"
case "$1 $2" in
  "version --format") echo 28.0 ;;
  "image save") echo "$@" > "$4" ;;
  "build --progress=plain") eval "$DURING_BUILD" ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the docker command, first on PATH; the file with its calls."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(_DOCKER)
    program.chmod(0o755)
    record = tmp_path / "calls"
    record.touch()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(record))
    monkeypatch.setenv("DURING_BUILD", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return record


def _builds(record: Path) -> list[str]:
    return [line for line in record.read_text().splitlines() if line.startswith("build ")]


def test_docker_is_used_where_an_engine_answers_and_starts_from_the_public_image(docker: Path) -> None:
    archives = build.ensure(["redis"], Steps(quiet=True))
    base, redis = _builds(docker)
    assert "--build-arg BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm" in base
    assert f"--tag {catalog.reference('base')}" in base
    assert f"--build-arg BASE_IMAGE={catalog.reference('base')}" in redis
    assert f"--tag {catalog.reference('redis')}" in redis
    assert archives == {"redis": build.archive_path("redis")}
    assert archives["redis"].read_text().endswith(f"{catalog.reference('redis')}\n")


def test_second_call_builds_nothing(docker: Path) -> None:
    build.ensure(["redis"], Steps(quiet=True))
    docker.write_text("")
    build.ensure(["redis"], Steps(quiet=True))
    assert docker.read_text() == ""


def test_concurrent_callers_build_once(docker: Path) -> None:
    callers = [
        threading.Thread(target=build.ensure, args=(["base"], Steps(quiet=True), Backend.DOCKER))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(_builds(docker)) == 1


def test_failed_build_quotes_its_log_and_leaves_no_archive(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURING_BUILD", "echo no such package: nonsense >&2; exit 3")
    with pytest.raises(
        TradestackError, match=r"(?s)image base cannot be built.*no such package: nonsense"
    ) as caught:
        build.ensure(["base"], Steps(quiet=True))
    assert caught.value.hint is not None
    log = Path(caught.value.hint.removeprefix("whole log: "))
    assert "nonsense" in log.read_text()
    assert list(log.parent.parent.glob("*.tar")) == []


def test_a_strict_umask_does_not_reach_the_image(
    docker: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jars = tmp_path / "jars"
    jars.mkdir(mode=0o700)
    (jars / "a.jar").touch(mode=0o600)
    monkeypatch.setattr("infra.images.kafka_jars.ensure", lambda: jars)
    show = (
        'for last; do :; done; cd "$(dirname "$last")"; umask >> modes.txt; '
        'stat -c "%n %a" artifacts host $(find artifacts -type f) >> modes.txt; cp modes.txt "$MODES"'
    )
    monkeypatch.setenv("DURING_BUILD", show)
    monkeypatch.setenv("MODES", str(tmp_path / "modes"))
    before = os.umask(0o077)
    try:
        build.ensure(["kafka"], Steps(quiet=True))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    modes = (tmp_path / "modes").read_text().splitlines()
    assert modes == ["0022", "artifacts 755", "host 755", "artifacts/a.jar 644"]


def test_temporary_files_are_gone_after_a_build(docker: Path) -> None:
    build.ensure(["base"], Steps(quiet=True))
    assert list(engines.temporary_folder().iterdir()) == []


def test_only_the_newest_archives_are_kept(docker: Path) -> None:
    present = build.archive_path("redis")
    present.parent.mkdir(parents=True)
    for age in range(1, 6):
        old = present.with_name(f"redis-{age:016x}.tar")
        old.touch()
        os.utime(old, (1000 - age, 1000 - age))
    other = present.with_name(f"redis-exporter-{1:016x}.tar")
    other.touch()
    build.ensure(["redis"], Steps(quiet=True))
    kept = sorted(path.name for path in present.parent.glob("*.tar"))
    assert kept == sorted([present.name, f"redis-{1:016x}.tar", f"redis-{2:016x}.tar", other.name])


def test_too_little_disk_space_is_found_before_the_start(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * 2**30))
    with pytest.raises(TradestackError, match=r"needs 3 GiB of free disk space, .* has 2\.0 GiB"):
        build.ensure(["base"], Steps(quiet=True))
    assert _builds(docker) == []


def test_unknown_image_is_refused(docker: Path) -> None:
    with pytest.raises(TradestackError, match="unknown image 'postgress'"):
        build.ensure(["redis", "postgress"], Steps(quiet=True))
    assert docker.read_text() == ""


def test_missing_tools_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TradestackError, match="buildah and mmdebstrap not found") as caught:
        build.ensure(["base"], Steps(quiet=True))
    assert caught.value.hint == "apt-get install -y buildah mmdebstrap"
    assert not (tmp_path / "cache").exists()


def test_buildah_without_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(TradestackError, match="needs root"):
        build.ensure(["base"], Steps(quiet=True), Backend.BUILDAH)
    assert not (tmp_path / "cache").exists()


def test_docker_without_an_engine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TradestackError, match="no Docker engine answers"):
        build.ensure(["base"], Steps(quiet=True), Backend.DOCKER)


@pytest.mark.cluster
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs Linux and root")
def test_leftovers_of_a_killed_build_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    engine = engines.Buildah()
    (engines.temporary_folder() / "rootfs.tar").touch()
    container = run(engine.command("from", "scratch")).strip()
    run(engine.command("mount", container))
    assert str(engine.home) in Path("/proc/self/mountinfo").read_text()
    engine.recover()
    assert str(engine.home) not in Path("/proc/self/mountinfo").read_text()
    assert run(engine.command("containers", "--quiet")) == ""
    assert list(engines.temporary_folder().iterdir()) == []
