"""Which cluster a command may change."""

from pathlib import Path

import pytest
import yaml

from infra import target
from infra.cluster.cluster import Cluster
from infra.errors import TradestackError
from infra.progress import Steps


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADESTACK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(target, "_docker_answers", lambda: False)


def foreign(directory: Path) -> Path:
    path = directory / "theirs.yaml"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "theirs",
        "contexts": [{"name": "theirs", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_embedded_cluster_unless_another_is_named() -> None:
    chosen = target.choose(context=None, cluster="mine")
    assert isinstance(chosen, target.EmbeddedTarget)
    assert chosen.kubeconfig == Cluster("mine").kubeconfig_path


def test_an_embedded_cluster_may_be_named_by_its_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(Cluster("other").kubeconfig_path))
    chosen = target.choose()
    assert isinstance(chosen, target.EmbeddedTarget)
    assert chosen.name == "other"


def test_a_cluster_named_on_the_command_line_comes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(foreign(tmp_path)))
    chosen = target.choose(cluster="mine")
    assert isinstance(chosen, target.EmbeddedTarget)
    assert chosen.name == "mine"


def test_a_named_cluster_is_used_as_it_is_and_gets_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if target.shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH")
    monkeypatch.setenv("KUBECONFIG", str(foreign(tmp_path)))
    chosen = target.choose()
    assert isinstance(chosen, target.NamedTarget)
    assert chosen.name == "theirs"
    assert chosen.kubeconfig.stat().st_mode & 0o777 == 0o600
    with pytest.raises(TradestackError, match="images cannot be loaded into context 'theirs'"):
        chosen.load({}, Steps(quiet=True))
