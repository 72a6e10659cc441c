"""Two lanes that run side by side: what needs the cluster, one test after another, and everything else."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        on_node = item.path.is_relative_to(item.config.rootpath / "tests" / "cluster")
        item.add_marker(pytest.mark.xdist_group("node" if on_node else "machine"))
