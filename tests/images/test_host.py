from pathlib import Path

import pytest

from infra.images import host
from infra.process import run


@pytest.fixture
def staged(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "host", tmp_path / "wheels"
    for folder in folders:
        folder.mkdir()
    return folders


def test_pip_settings_of_this_machine_reach_the_build(
    staged: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nindex-url = https://pypi.example.org/simple\nuser = true\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("PIP_RETRIES", "9")
    host.stage(*staged)
    pip = (staged[0] / "pip.conf").read_text()
    assert "index-url = https://pypi.example.org/simple\n" in pip
    assert "retries = 9\n" in pip
    assert "user" not in pip


def test_values_reach_the_build_as_they_are(
    staged: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = "http://user:it's$(id)@proxy.example.org"
    monkeypatch.setenv("http_proxy", proxy)
    host.stage(*staged)
    assert run(["sh", "-c", '. "$0" && printf %s "$http_proxy"', staged[0] / "env"], env={}) == proxy


def test_local_wheels_are_offered(
    staged: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "thing-1-py3-none-any.whl").write_text("wheel")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path / 'local'} {tmp_path / 'absent'}")
    host.stage(*staged)
    assert [wheel.name for wheel in staged[1].iterdir()] == ["thing-1-py3-none-any.whl"]
    assert "find-links = /run/wheels\n" in (staged[0] / "pip.conf").read_text()


def test_ca_bundle_and_proxy_reach_the_build(
    staged: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "company.pem"
    bundle.write_text("certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    host.stage(*staged)
    assert (staged[0] / "ca.crt").read_text() == "certificate"
    environment = (staged[0] / "env").read_text()
    assert "export SSL_CERT_FILE='/run/host/ca.crt'\n" in environment
    assert "export https_proxy='http://proxy.example.org:3128'\n" in environment
    assert 'Acquire::https::CAInfo "/run/host/ca.crt";' in (staged[0] / "apt.conf").read_text()


def test_apt_sources_fall_back_to_the_public_mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.apt_sources()[0] == "deb http://deb.debian.org/debian bookworm main"


def test_apt_sources_are_those_of_debian_12_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "http://mirror.example.org/debian bookworm main", "http://mirror.example.org/debian trixie main"
    program = tmp_path / "apt-get"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in listed))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert host.apt_sources() == ["deb http://mirror.example.org/debian bookworm main"]
