"""Checkers are built once; what they found is kept apart from the user's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.check import store
from infra.plan import Plan, run, stackfile
from infra.progress import Steps


@pytest.fixture(scope="session")
def steps() -> Steps:
    return Steps(quiet=True)


@pytest.fixture(scope="session")
def local_plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """`local` as a machine without a cluster plans it."""
    missing: Path = tmp_path_factory.mktemp("plan") / "kubeconfig"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(missing))
        yield run("local")


@pytest.fixture(scope="session")
def cloud_plans() -> list[Plan]:
    """Every stack on AWS."""
    plans = [
        run(stack)
        for stack in stackfile.stacks()
        if stackfile.configuration(stackfile.locate(stack)).get("tradestack:platform") == "aws"
    ]
    assert {found.stack for found in plans} >= {"dev", "staging", "prod"}
    return plans


@pytest.fixture
def no_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing was scanned before."""
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(store, "results", lambda: folder)
    return folder


@pytest.fixture
def loud_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user whose own checkov configuration would skip everything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(store.cache_dir().parent))
    (tmp_path / ".checkov.yaml").write_text("skip-check: ['CKV*']\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CKV_SKIP_CHECK", "CKV*")
