"""What a reviewer reads under a pull request that touches the database."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.plan import Plan, markdown, run, stackfile
from infra.plan.against import resolve
from infra.plan.report import Report, assemble, document
from stacks.cloud import data


def _compared(old: Plan, new: Plan) -> tuple[Report, str]:
    report = assemble(new, "origin/main", old)
    return report, markdown.text(report)


def test_multi_az_turned_off_is_a_finding_a_saving_and_an_update(plans: dict[str, Plan]) -> None:
    given = json.loads(stackfile.configuration(stackfile.locate("staging"))["tradestack:database"])
    changed = run("staging", overrides={"tradestack:database": json.dumps({**given, "multiAz": False})})
    report, text = _compared(plans["staging"], changed)
    found = document(report)
    assert [item["id"] for item in found["findings"] if item["new"]] == ["TS017"]
    assert found["changes"]["cost"]["delta_usd"] < -30
    changes = [item for item in found["changes"]["items"] if item["type"].endswith(":Instance")]
    assert [item["action"] for item in changes] == ["update"]
    assert "TS017" in text
    assert "multiAz" in text
    assert "$-" in text or "-$" in text or "(-" in text


def test_a_renamed_database_is_a_replacement_that_is_refused(
    plans: dict[str, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = data.Database

    def renamed(name: str, args: Any, opts: Any) -> Any:
        return made("orders", args, opts)

    monkeypatch.setattr(data, "Database", renamed)
    report, text = _compared(plans["prod"], run("prod"))
    primary = [
        item
        for item in document(report)["changes"]["items"]
        if item["type"] == "aws:rds/instance:Instance" and item["name"] in ("database", "orders")
    ]
    assert {item["action"] for item in primary} == {"replace"}
    assert all(item["refused"] for item in primary)
    head = text[: len(text) // 2]
    assert "REPLACE" in head.upper()
    assert "rds/instance" in head or "Instance" in head


def test_a_comment_fits_into_github_whatever_changes(plans: dict[str, Plan]) -> None:
    for stack, plan in plans.items():
        _, text = _compared(plans["dev" if stack != "dev" else "prod"], plan)
        assert len(text) < 65_536


def test_nothing_changed_says_so(plans: dict[str, Plan]) -> None:
    report, _ = _compared(plans["prod"], run("prod"))
    changes = document(report)["changes"]
    assert [changes[key] for key in ("create", "update", "replace", "delete")] == [0, 0, 0, 0]
    assert changes["same"] == len(plans["prod"].resources)


def test_a_stored_plan_is_the_same_plan(plans: dict[str, Plan], tmp_path: Path) -> None:
    stored = tmp_path / "prod.json"
    stored.write_text(json.dumps(document(assemble(plans["prod"]))))
    report = assemble(plans["prod"], str(stored), resolve("prod", str(stored)))
    assert report.diff is not None
    assert (report.diff.changes, report.new, report.fixed) == ((), (), ())
    assert report.costs is not None
    assert report.costs.delta_usd == 0


def test_another_image_replaces_the_task_definitions_though_their_text_is_unknown(
    plans: dict[str, Plan],
) -> None:
    image = json.dumps({"digest": "sha256:" + 64 * "a"})
    report, _ = _compared(plans["dev"], run("dev", overrides={"tradestack:image": image}))
    changes = {
        item["name"]: item
        for item in document(report)["changes"]["items"]
        if "TaskDefinition" in item["type"]
    }
    assert {name: item["action"] for name, item in changes.items()} == {
        "notification": "replace",
        "housekeeping": "replace",
    }
    paths = [item["path"] for item in changes["notification"]["properties"]]
    assert any(path.startswith("containerDefinitions") and path.endswith("image") for path in paths)
