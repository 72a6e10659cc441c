"""Alert rules against the real promtool: each fires when it should, and neither earlier nor at less."""

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.roles import Kind, cluster_roles
from components.kubernetes.monitoring import data
from infra.paths import REPOSITORY

PROMTOOL = shutil.which("promtool")
CASES = sorted(Path(__file__).parent.glob("*.test.yaml"))
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: infra/setup.sh test")

_THRESHOLD = re.compile(r"(?P<operator>==|>=|<=|>|<) (?P<open>\(?)(?P<number>\d+(\.\d+)?)")


def _alerts() -> dict[str, dict[str, Any]]:
    return {
        rule["alert"]: {**rule, "file": name}
        for name, content in data.rules().items()
        for group in content["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def _promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False, timeout=120)


def _tried(document: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Every alert that a test file asks for, and whether it is expected to fire there."""
    for test in document["tests"]:
        for check in test["alert_rule_test"]:
            yield check["alertname"], bool(check.get("exp_alerts"))


@needs_promtool
def test_rule_files_are_valid() -> None:
    done = _promtool("check", "rules", *sorted(data.RULES.glob("*.yaml")))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_rules_fire_when_they_should(case: Path) -> None:
    done = _promtool("test", "rules", case)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    tried: dict[str, set[bool]] = defaultdict(set)
    for case in CASES:
        for name, fires in _tried(yaml.safe_load(case.read_text())):
            tried[name].add(fires)
    assert {name: {True, False} for name in _alerts()} == dict(tried)


def test_the_rules_of_the_seeds_have_their_thresholds() -> None:
    alerts = _alerts()
    wanted = {
        "HighWebSocketConnections": ("> 8000", "5m", "warning"),
        "PriceServiceDown": ("== 0", "1m", "critical"),
        "HighCPUUsage": ("> 0.8", "10m", "warning"),
        "BrokerBacklog": ("> 5000", "5m", "warning"),
    }
    for name, (threshold, lasting, severity) in wanted.items():
        rule = alerts[name]
        assert threshold in rule["expr"]
        assert (rule["for"], rule["labels"]["severity"]) == (lasting, severity)


def test_every_rule_tells_what_it_means_and_where_to_read_on() -> None:
    for name, rule in _alerts().items():
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert rule["annotations"]["summary"], name
        assert rule["annotations"]["description"].endswith("."), name
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        text = (REPOSITORY / "docs" / "runbooks" / f"{name}.md").read_text()
        assert text.startswith(f"# {name}\n")
        for heading in ("What it means", "What to look at", "What to do"):
            assert f"\n**{heading}.**" in text, f"{name}: {heading}"


def test_there_is_no_runbook_without_a_rule() -> None:
    books = {path.stem for path in (REPOSITORY / "docs" / "runbooks").glob("*.md")}
    assert books - {"README"} == set(_alerts())


def test_absence_is_told_of_every_role_that_serves() -> None:
    asked = set(re.findall(r'absent\(up\{job="([\w-]+)"\}\)', _alerts()["RoleAbsent"]["expr"]))
    serving = {
        name
        for name, role in cluster_roles(cloud=True).items()
        if role.kind is Kind.SERVICE and role.port is not None
    }
    assert asked | {"price-service"} == serving


def _mutants(rule: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Changes of a rule that its tests must notice: a threshold a fifth off, a wait half or twice as long."""
    expression = str(rule["expr"])
    for match in _THRESHOLD.finditer(expression):
        number = float(match["number"])
        near = {0.0: (-1.0, 1e15), 1.0: (0.0, 2.0)}.get(number, (number * 0.8, number * 1.2))
        for other in near:
            # `up == 0` has no values between.
            if match["operator"] == "==":
                other = number + 1
            start, end = match.span("number")
            yield f"{match[0]} → {other:g}", {"expr": f"{expression[:start]}{other:g}{expression[end:]}"}
    if "for" in rule:
        amount, unit = int(rule["for"][:-1]), rule["for"][-1]
        seconds = amount * {"s": 1, "m": 60}[unit]
        for other_wait in (seconds // 2, seconds * 2):
            yield f"for {rule['for']} → {other_wait}s", {"for": f"{other_wait}s"}


@needs_promtool
@pytest.mark.parametrize("name", sorted(_alerts()))
def test_a_wrong_threshold_is_noticed(name: str, tmp_path: Path) -> None:
    rule = _alerts()[name]
    case = next(path for path in CASES if path.name == f"{rule['file']}.test.yaml")
    document = yaml.safe_load(case.read_text())
    document["tests"] = [
        {**test, "alert_rule_test": asked}
        for test in document["tests"]
        if (asked := [check for check in test["alert_rule_test"] if check["alertname"] == name])
    ]
    document["rule_files"] = ["rules.yaml"]
    (tmp_path / "case.test.yaml").write_text(yaml.safe_dump(document))
    survived = []
    for told, change in _mutants(rule):
        content = yaml.safe_load((data.RULES / f"{rule['file']}.yaml").read_text())
        for group in content["groups"]:
            group["rules"] = [
                {**item, **change} if item.get("alert") == name else item for item in group["rules"]
            ]
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(content))
        done = _promtool("test", "rules", tmp_path / "case.test.yaml")
        if "FAILED" not in done.stdout + done.stderr:
            survived.append(told)
    assert not survived
