"""The doctor names what is missing, why it matters and what helps; `up` refuses before it starts anything."""

import json
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from infra.cluster import cgroups, commands, doctor
from infra.cluster.cluster import Cluster
from infra.cluster.instance import Instance
from infra.errors import TradestackError
from infra.progress import Steps


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADESTACK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def linux_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(doctor, "_namespaces", lambda: doctor.Check("network namespaces", True, "", ""))
    monkeypatch.setattr(doctor, "_nftables", lambda: doctor.Check("nftables", True, "", ""))
    monkeypatch.setattr(doctor, "_overlay", lambda _: doctor.Check("overlay", True, "", ""))
    monkeypatch.setattr(doctor, "_addresses", lambda _: doctor.Check("addresses", True, "", ""))


def by_name(name: str) -> doctor.Check:
    return next(check for check in doctor.doctor(Instance.named("sample")) if check.name == name)


def test_without_root_nothing_else_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    checks = doctor.doctor(Instance.named("sample"))
    assert [check.name for check in checks] == ["system", "root"]
    assert checks[1].fix == "run it with sudo"


@pytest.mark.usefixtures("linux_root")
def test_a_missing_tool_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    check = by_name("containerd")
    assert not check.passed
    assert check.fix == "apt-get install -y --no-install-recommends containerd"
    assert check.why == "runs the containers"


@pytest.mark.usefixtures("linux_root")
def test_missing_control_groups_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "controllers", lambda: {"cpu", "cpuset", "pids"})
    check = by_name("control groups")
    assert not check.passed
    assert check.found == "missing memory"


@pytest.mark.usefixtures("linux_root")
def test_a_full_disk_is_told_with_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**30))
    check = by_name("disk for state")
    assert not check.passed
    assert check.found.startswith("1.0 GiB free")
    assert "6 GiB" in check.why


@pytest.mark.usefixtures("linux_root")
def test_up_refuses_with_every_reason_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "_memory", lambda: doctor.Check("memory", False, "1.0 GiB", "needs 3 GiB"))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(TradestackError) as refused:
        Cluster("sample").up(Steps(quiet=True))
    assert "memory: 1.0 GiB; needs 3 GiB" in str(refused.value)
    assert "runc: not on PATH" in str(refused.value)
    assert "install -y --no-install-recommends runc" in (refused.value.hint or "")
    assert not (tmp_path / "state").exists()


def test_the_command_prints_json_and_fails_when_a_check_does(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = doctor.Check("memory", False, "1.0 GiB", "needs 3 GiB", "buy some")
    monkeypatch.setattr(doctor, "doctor", lambda _: [failed])
    app = typer.Typer()
    app.command()(commands.doctor)
    result = CliRunner().invoke(app, ["--json"])
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["passed"] is False
    assert answer["checks"][0]["fix"] == "buy some"
    table = CliRunner().invoke(app, [])
    assert "buy some" in table.stdout
