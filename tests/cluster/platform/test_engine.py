"""Under the real engine: what `up` made shows no drift, and a preview shows nothing to do."""

import shutil

import pytest
from pulumi.automation import LocalWorkspaceOptions, select_stack

from infra import engine
from tests.cluster.platform.conftest import Platform

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="the Pulumi CLI is not on PATH"),
]


def test_refresh_shows_no_drift(platform: Platform) -> None:
    directory = engine.local_state(platform.cluster.instance.state, "local")
    environment = engine.local_environment(directory)
    stack = select_stack("local", work_dir=str(directory), opts=LocalWorkspaceOptions(env_vars=environment))
    assert set(stack.refresh(expect_no_changes=True).summary.resource_changes or {}) == {"same"}
    assert set(stack.preview(expect_no_changes=True).change_summary) == {"same"}
