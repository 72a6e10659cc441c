"""What a plan can be compared with, and what is refused."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.errors import TradestackError
from infra.paths import REPOSITORY
from infra.plan import Plan, against
from infra.plan.diff import compare
from infra.plan.report import assemble, document

_PARTS = ("Pulumi.yaml", "Pulumi.local.yaml", "infra", "stacks", "components", "app")


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with this tree as branch `base`, and a change of the stack file after it."""
    folder = tmp_path_factory.mktemp("clone")
    ignore = shutil.ignore_patterns("__pycache__", "node_modules")
    for part in _PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=ignore)
        else:
            shutil.copy(source, folder / part)
    _git(folder, "init", "-q")
    _git(folder, "add", "-A")
    _git(folder, "commit", "-qm", "base")
    _git(folder, "branch", "base")
    marker = folder / "components" / "kubernetes" / "network_policy.py"
    marker.write_text(marker.read_text().replace('"protocol": "TCP"', '"protocol": "UDP"'))
    settings = folder / "Pulumi.local.yaml"
    settings.write_text(settings.read_text().replace("nodePort: 30080", "nodePort: 30081"))
    _git(folder, "commit", "-qam", "changed")
    _git(folder, "rm", "-q", "Pulumi.local.yaml")
    _git(folder, "commit", "-qm", "gone")
    return folder


@pytest.fixture
def here(clone: Path, local_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Path:
    provider = next(item for item in local_plan.resources if item.type == "pulumi:providers:kubernetes")
    monkeypatch.setattr("infra.plan.against.REPOSITORY", clone)
    monkeypatch.setenv("KUBECONFIG", provider.inputs["kubeconfig"])
    return clone


def test_the_same_tree_at_a_commit_is_the_same(here: Path, local_plan: Plan) -> None:
    assert compare(against.resolve("local", "base"), local_plan).changes == ()


def test_another_commit_runs_its_own_modules_and_settings(here: Path, local_plan: Plan) -> None:
    """The component says UDP there: had the modules installed here run, nobody would see it."""
    diff = compare(against.resolve("local", "HEAD~1"), local_plan)
    found = {(item.difference.text, item.difference.old) for one in diff.changes for item in one.properties}
    assert any(path.endswith(".protocol") and old == "UDP" for path, old in found)
    assert any(path.endswith(".nodePort") and old == 30081 for path, old in found)


def test_a_stack_that_did_not_exist_is_created_whole(here: Path, local_plan: Plan) -> None:
    old = against.resolve("local", "HEAD")
    assert old is None
    report = assemble(local_plan, "HEAD", old)
    assert document(report)["changes"]["create"] == len(local_plan.resources)


def test_nothing_is_left_behind(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    against.resolve("local", "base")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["no-such-branch", "--help", "HEAD~99"])
def test_an_unknown_commit_is_named(here: Path, name: str) -> None:
    with pytest.raises(TradestackError, match=f"--against {name}: there is no such file, and no such commit"):
        against.resolve("local", name)


def test_a_commit_whose_program_fails_says_how(here: Path) -> None:
    _git(here, "checkout", "-q", "-b", "broken", "base")
    (here / "stacks" / "__init__.py").write_text("raise RuntimeError('boom')\n")
    _git(here, "commit", "-qam", "broken")
    with pytest.raises(TradestackError, match=r"the program at broken makes no plan of 'local'(.|\n)*boom"):
        against.resolve("local", "broken")


def test_a_stored_plan_is_read_back(local_plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document(assemble(local_plan))))
    assert compare(against.resolve("local", str(path)), local_plan).changes == ()


def test_another_stack_file_is_planned(tmp_path: Path, local_plan: Plan) -> None:
    path = tmp_path / "Pulumi.more.yaml"
    text = (REPOSITORY / "Pulumi.local.yaml").read_text()
    path.write_text(text.replace("nodePort: 30080", "nodePort: 30099"))
    diff = compare(against.resolve("local", str(path)), local_plan)
    found = {(item.difference.text, item.difference.old) for one in diff.changes for item in one.properties}
    assert any(path.endswith(".nodePort") and old == 30099 for path, old in found)


def test_the_plan_of_another_stack_is_refused(local_plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**document(assemble(local_plan)), "stack": "prod"}))
    with pytest.raises(TradestackError, match="is the plan of stack 'prod', not of 'local'"):
        against.resolve("local", str(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not JSON"),
        (b"[]", "it has no list 'resources'"),
        (b'{"resources": {}}', "it has no list 'resources'"),
        (b'{"stack": "local", "resources": [{}]}', "a resource is incomplete"),
        (b'{"stack": "local", "resources": [7]}', "a resource is incomplete"),
        (b"\xff\xfe", "is not text"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(TradestackError, match=reason):
        against.resolve("local", str(path))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TradestackError, match="is a directory"):
        against.resolve("local", str(tmp_path))
