"""Alert rules and dashboards, which are data: promtool, Grafana and this program read the same files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parent / "rules"
"""Prometheus rule files; `promtool test rules` reads them as they are."""
DASHBOARDS = Path(__file__).parent / "dashboards"
"""Dashboards as Grafana exports them."""


def rules() -> dict[str, Mapping[str, Any]]:
    """Content of every rule file by its name without the ending."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yaml"))}


def dashboards() -> dict[str, Mapping[str, Any]]:
    """Every dashboard by its file's name without the ending."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}
