"""The operator writes settings for the version that it is told; it must be the one that is run."""

import re

from infra.cluster.binaries import PROMETHEUS
from stacks import local


def test_the_operator_is_told_the_prometheus_that_is_built() -> None:
    """Prometheus 3.14.0 is version 0.314.0 of its module."""
    required = (PROMETHEUS.folder / "go.mod").read_text()
    found = re.search(r"^\tgithub\.com/prometheus/prometheus v0\.(\d+)(\d\d)\.(\d+)", required, re.MULTILINE)
    assert found is not None
    major, minor, patch = (int(part) for part in found.groups())
    assert local._IMAGES.prometheus_version == f"{major}.{minor}.{patch}"
