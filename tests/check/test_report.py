"""Skips, relaxations and the report as a whole."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import typer

from components.skips import Skip
from infra.check import commands, report, skips
from infra.check.model import Scan
from infra.plan import Plan
from infra.policy import Finding
from infra.progress import Steps
from tests.policy.good import declared, plan, urn
from tests.policy.test_assertions import DATABASE, broken

BUCKET = "aws:s3/bucket:Bucket"
REASON = "Nothing in here is needed in another region."


def finding(check: str, type_: str, name: str) -> Finding:
    return Finding(check, "checkov", urn(type_, name), "something is wrong", "medium")


def declare(*given: Skip) -> list[skips.Declared]:
    return [skips.Declared(skip, "components.aws.storage") for skip in given]


def test_a_skip_accepts_its_check_on_its_type_and_name() -> None:
    found = plan(declared())
    accepted = declare(Skip("CKV_AWS_144", BUCKET, REASON, name="back*"))
    given = [
        finding("CKV_AWS_144", BUCKET, "backups"),
        finding("CKV_AWS_144", BUCKET, "reports"),
        finding("CKV_AWS_18", BUCKET, "backups"),
        finding("CKV_AWS_144", "aws:kms/key:Key", "data"),
    ]
    assert [item.reason for item in skips.apply(given, found, accepted)] == [REASON, "", "", ""]


def test_a_skip_names_a_kubernetes_kind_alone() -> None:
    found = plan(declared())
    accepted = declare(Skip("CKV_K8S_15", "Deployment", REASON))
    given = [finding("CKV_K8S_15", "kubernetes:apps/v1:Deployment", "gateway")]
    assert skips.apply(given, found, accepted)[0].reason == REASON
    given = [finding("CKV_K8S_15", "kubernetes:batch/v1:Job", "migrate")]
    assert skips.apply(given, found, accepted)[0].reason == ""


def test_what_a_stack_relaxes_is_accepted_from_scanners_too() -> None:
    given = [finding("CKV_AWS_157", DATABASE[0], "main"), finding("CKV_AWS_16", DATABASE[0], "main")]
    relaxed = skips.relax(given, {"TS017": "one zone is enough for development"})
    assert [item.reason for item in relaxed] == ["one zone is enough for development", ""]
    assert skips.relax(given, {}) == given


@pytest.mark.parametrize("reason", ["", "   ", "Not needed."])
def test_a_skip_without_a_reason_accepts_nothing_and_is_a_failure(reason: str) -> None:
    accepted = declare(Skip("CKV_AWS_144", BUCKET, reason))
    given = [finding("CKV_AWS_144", BUCKET, "backups")]
    assert skips.apply(given, plan(declared()), accepted)[0].reason == ""
    assert [item.id for item in skips.without_reason(accepted)] == ["skip-without-reason"]


def test_a_skip_is_stale_when_no_stack_needs_it() -> None:
    found = plan(declared())
    accepted = declare(Skip("CKV_AWS_144", BUCKET, REASON), Skip("CKV_AWS_1", BUCKET, REASON))
    needed = [finding("CKV_AWS_144", BUCKET, "backups")]
    stale = skips.stale(accepted, {"dev": (found, []), "prod": (found, needed)})
    assert [item.message for item in stale] == [
        "the skip of CKV_AWS_1 on aws:s3/bucket:Bucket '*' matches nothing in any stack"
    ]


def test_the_skips_of_all_components_are_found_and_have_reasons() -> None:
    found = skips.collect()
    assert {item.module for item in found} >= {"components.aws.storage"}
    assert skips.without_reason(found) == []


@pytest.fixture
def one_stack(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """One stack with two faults, one of them accepted, and a scanner that finds a third."""
    found = broken(DATABASE, "multiAz", False)
    found = replace(found, stack="dev")
    monkeypatch.setattr(report, "run", lambda stack: found)
    monkeypatch.setattr(report.documents, "complete", lambda plan: plan)
    monkeypatch.setattr(report, "relaxations", lambda plan: {"TS017": "one zone is enough for development"})
    scanned = Scan(
        "checkov", 7, (finding("CKV_AWS_144", BUCKET, "reports"), finding("CKV_AWS_18", BUCKET, "logs"))
    )
    monkeypatch.setattr(report, "scan", lambda plan, steps: [scanned])
    monkeypatch.setattr(skips, "collect", lambda: declare(Skip("CKV_AWS_18", BUCKET, REASON, name="logs")))
    return found


@pytest.mark.usefixtures("one_stack")
def test_the_report_counts_what_passed_failed_and_is_accepted(steps: Steps) -> None:
    document = report.check("dev", steps).document()
    assert {key: document[key] for key in ("stack", "failed", "skipped")} == {
        "stack": "dev",
        "failed": 1,
        "skipped": 2,
    }
    assert document["passed"] > 7
    for item in document["findings"]:
        assert {"checker", "id", "resource", "message", "reason"} <= set(item)
    assert {item["id"]: item["reason"] for item in document["findings"]} == {
        "TS017": "one zone is enough for development",
        "CKV_AWS_18": REASON,
        "CKV_AWS_144": "",
    }


def test_a_stale_skip_fails_the_check_of_any_stack(
    one_stack: Plan, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    monkeypatch.setattr(skips, "collect", lambda: declare(Skip("CKV_AWS_1", BUCKET, REASON)))
    monkeypatch.setattr(report.stackfile, "stacks", lambda: ["dev", "prod"])
    assert "skip-stale" in {item.id for item in report.check("dev", steps).failures}


def test_relaxations_come_from_the_settings_of_the_stack(local_plan: Plan, cloud_plans: list[Plan]) -> None:
    assert report.relaxations(local_plan) == {}
    by_stack = {found.stack: report.relaxations(found) for found in cloud_plans}
    assert "TS017" in by_stack["dev"]
    assert by_stack["prod"] == {}


@pytest.mark.timeout(600)
def test_the_command_prints_one_object_and_fails_with_a_failure() -> None:
    command = [sys.executable, "-m", "infra.cli", "check", "local", "--json"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    document = json.loads(told.stdout)
    assert told.returncode == (1 if document["failed"] else 0)
    assert document["passed"] > 500


@pytest.mark.usefixtures("one_stack")
def test_the_table_ends_with_the_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], steps: Steps
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(typer.Exit) as ended:
        commands.check("dev")
    assert ended.value.exit_code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:-1]] == [
        ["fail", "checkov", "CKV_AWS_144"],
        ["skip", "checkov", "CKV_AWS_18"],
        ["skip", "policy", "TS017"],
    ]
    assert re.fullmatch(r"\d+ passed, 1 failed, 2 skipped", lines[-1])
