"""Configuration files say what the node needs and nothing that reaches beyond the instance."""

import base64
import json
import tomllib
from pathlib import Path

import pytest
import yaml

from infra.cluster import config
from infra.cluster.addresses import AddressPlan
from infra.cluster.instance import Instance
from infra.cluster.network import firewall
from infra.cluster.pki import Authority, Pair

PLAN = AddressPlan(7)


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance("sample", tmp_path / "sample")


def test_containerd_keeps_to_the_folders_of_the_instance(instance: Instance) -> None:
    text = config.containerd(instance, pause_image="localhost/pause:1", snapshotter="native")
    parsed = tomllib.loads(text)
    cri = parsed["plugins"]["io.containerd.grpc.v1.cri"]
    assert Path(parsed["root"]).is_relative_to(instance.state)
    assert Path(parsed["state"]).is_relative_to(instance.run)
    assert parsed["grpc"]["address"] == str(instance.containerd_socket)
    assert cri["sandbox_image"] == "localhost/pause:1"
    assert cri["containerd"]["snapshotter"] == "native"
    assert cri["restrict_oom_score_adj"] is True


def test_kubelet_neither_collects_images_nor_evicts_on_a_well_filled_disk(instance: Instance) -> None:
    pair = Pair(Path("/a.crt"), Path("/a.key"))
    parsed = yaml.safe_load(config.kubelet(instance, PLAN, authority=Path("/ca.crt"), serving=pair))
    assert parsed["imageGCHighThresholdPercent"] == 100
    assert not any(
        value.endswith("%") for key, value in parsed["evictionHard"].items() if key.endswith("available")
    )
    assert parsed["cgroupRoot"] == "/tradestack-sample"
    assert parsed["clusterDNS"] == ["10.96.7.10"]
    assert parsed["authentication"]["anonymous"] == {"enabled": False}


def test_pods_get_addresses_of_the_plan(instance: Instance) -> None:
    plugin = json.loads(config.cni(instance, PLAN))["plugins"][0]
    assert plugin["type"] == "ptp"
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.97.7.0/24"}]]
    assert Path(plugin["ipam"]["dataDir"]).is_relative_to(instance.run)


def test_the_firewall_is_named_after_the_instance_and_masks_only_its_addresses(instance: Instance) -> None:
    rules = firewall(instance, PLAN)
    assert "table ip ts-sample {" in rules
    assert 'ip saddr { 10.98.7.0/30, 10.97.7.0/24 } oifname != "ts-sample" masquerade' in rules


def test_resolvers_that_only_this_machine_reaches_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\nnameserver ::1\noptions edns0\n")
    real.write_text("# comment\nnameserver 192.0.2.53\nsearch example.org\n")
    monkeypatch.setattr(config, "_RESOLVERS", (tmp_path / "missing", stub, real))
    assert config.upstream_resolvers() == ["192.0.2.53"]
    monkeypatch.setattr(config, "_RESOLVERS", (stub,))
    assert config.upstream_resolvers() == []


def test_a_kubeconfig_works_from_any_folder(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    client = authority.issue("admin", "admin", groups=["system:masters"])
    text = config.kubeconfig("sample", "https://192.0.2.1:6443", authority.pair.certificate, "admin", client)
    parsed = yaml.safe_load(text)
    data = parsed["clusters"][0]["cluster"]["certificate-authority-data"]
    assert base64.b64decode(data) == authority.pair.certificate.read_bytes()
    assert str(tmp_path) not in text


def test_written_files_are_private(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    config.write({file: "secret"})
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0
