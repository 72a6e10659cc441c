"""The plan of the local stack, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.plan import Plan, run


@pytest.fixture(scope="session")
def local_plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """`local` as a machine without a cluster plans it."""
    missing: Path = tmp_path_factory.mktemp("plan") / "kubeconfig"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(missing))
        yield run("local")
