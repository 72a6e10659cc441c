"""The workflows of the repository's host."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.paths import REPOSITORY
from infra.plan import stackfile

_FOLDER = REPOSITORY / ".github" / "workflows"
_COMMENTS = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in *--paginate*) [ "$TITLE" = '## Plan of `dev`' ] && echo 42; exit 0 ;; esac
"""


def _workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((_FOLDER / name).read_text())
    return found


@pytest.mark.parametrize("file", sorted(_FOLDER.glob("*.yml")), ids=lambda path: path.name)
def test_actions_are_pinned_to_a_commit_and_jobs_begin_without_rights_to_write(file: Path) -> None:
    workflow = _workflow(file.name)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for used in [step["uses"] for step in steps if "uses" in step]:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", used), used
    assert workflow["permissions"] == {"contents": "read"}
    # What others can name, such as a branch, reaches a script as a variable, never as its text.
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []


def test_every_stack_is_planned() -> None:
    assert _workflow("plan.yml")["jobs"]["plan"]["strategy"]["matrix"]["stack"] == stackfile.stacks()


def test_only_the_job_that_runs_no_code_of_the_pull_request_may_write() -> None:
    jobs = _workflow("plan.yml")["jobs"]
    writing = [name for name, job in jobs.items() if "write" in (job.get("permissions") or {}).values()]
    assert writing == ["comment"]
    assert not [step for step in jobs["comment"]["steps"] if "checkout" in step.get("uses", "")]


def test_a_comment_is_renewed_where_there_is_one(tmp_path: Path) -> None:
    for stack in ("dev", "prod"):
        (tmp_path / "plans" / f"plan-{stack}").mkdir(parents=True)
        (tmp_path / "plans" / f"plan-{stack}" / "plan.md").write_text(f"## Plan of `{stack}`\n")
    program = tmp_path / "bin" / "gh"
    program.parent.mkdir()
    program.write_text(_COMMENTS)
    program.chmod(0o755)
    script = _workflow("plan.yml")["jobs"]["comment"]["steps"][-1]["run"]
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "REPOSITORY": "example/tradestack",
        "NUMBER": "7",
    }
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=True)
    written = [line for line in (tmp_path / "calls").read_text().splitlines() if "--paginate" not in line]
    assert written == [
        "api --silent --method PATCH repos/example/tradestack/issues/comments/42 "
        "-F body=@plans/plan-dev/plan.md",
        "api --silent repos/example/tradestack/issues/7/comments -F body=@plans/plan-prod/plan.md",
    ]
