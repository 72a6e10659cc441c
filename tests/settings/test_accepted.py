"""What valid settings mean."""

import json
from dataclasses import replace

import pytest

from app.roles import ROLES, Hours
from infra.plan import stackfile
from infra.settings import StackSettings, parse
from infra.settings.quantities import Cpu, Duration, Memory
from infra.settings.workloads import workload


def _parse(**given: object) -> StackSettings:
    return parse({"platform": "local", **given}, file="Pulumi.test.yaml")


@pytest.mark.parametrize(
    ("kind", "written", "canonical"),
    [
        (Cpu, "1000m", "1"),
        (Cpu, "0.5", "500m"),
        (Cpu, 2, "2"),
        (Cpu, "1500m", "1500m"),
        (Memory, "1024Mi", "1Gi"),
        (Memory, "1536Mi", "1536Mi"),
        (Memory, "2048Gi", "2Ti"),
        (Duration, "5m", "300s"),
        (Duration, "1h", "3600s"),
    ],
)
def test_quantities_are_written_as_the_api_server_stores_them(
    kind: type, written: object, canonical: str
) -> None:
    assert str(kind.parse(written)) == canonical  # type: ignore[attr-defined]


def test_objects_arrive_as_json_text_from_the_engine() -> None:
    scaling = {"minimum": 2, "maximum": 4, "downWindow": "10m"}
    as_text = _parse(nodePort="31000", services=json.dumps({"gateway": {"scaling": scaling}}))
    as_objects = _parse(nodePort=31000, services={"gateway": {"scaling": scaling}})
    assert as_text == as_objects
    assert as_text.services["gateway"].scaling is not None
    assert as_text.services["gateway"].scaling.down_window == 600


def test_every_stack_file_of_the_repository_is_valid() -> None:
    for stack in stackfile.stacks():
        configuration = stackfile.configuration(stackfile.locate(stack))
        mine = {
            key.split(":", 1)[1]: value
            for key, value in configuration.items()
            if key.startswith("tradestack:")
        }
        assert parse(mine, file=stack).platform == ("local" if stack == "local" else "aws")


def test_a_role_without_settings_is_as_the_role_table_says() -> None:
    item = workload(_parse(), "gateway")
    scaling = ROLES["gateway"].scaling
    assert scaling is not None
    assert item.scaling is not None
    assert (item.scaling.minimum, item.scaling.maximum) == (scaling.minimum, scaling.maximum)
    assert item.resources == ROLES["gateway"].resources


def test_a_role_keeps_the_targets_that_its_stack_does_not_name() -> None:
    given = {"minimum": 1, "maximum": 3, "connectionsPerReplica": 25, "upWindow": "15s"}
    scaling = workload(_parse(services={"price-service": {"scaling": given}}), "price-service").scaling
    table = ROLES["price-service"].scaling
    assert scaling is not None
    assert table is not None
    assert (scaling.minimum, scaling.maximum, scaling.connections) == (1, 3, 25)
    assert scaling.added == replace(table.added, window_seconds=15)
    assert (scaling.removed, scaling.backlog, scaling.cpu_percent) == (table.removed, 1000, 70)


def test_a_backlog_is_changed_where_the_role_has_it() -> None:
    given = {"minimum": 1, "maximum": 3, "messagesBehind": 7}
    settings = _parse(services={name: {"scaling": given} for name in ("order", "price-service")})
    order, prices = (workload(settings, name).scaling for name in ("order", "price-service"))
    assert order is not None
    assert order.lag is not None
    assert (order.lag.messages, order.lag.group, order.backlog) == (7, "order", None)
    assert prices is not None
    assert (prices.backlog, prices.lag) == (7, None)


def test_hours_are_told_to_keda_in_the_words_of_cron() -> None:
    hours = {"start": "09:30", "end": "16:05", "timeZone": "Europe/London", "days": "MON-SUN", "replicas": 3}
    given = {"minimum": 1, "maximum": 3, "cron": [hours]}
    scaling = workload(_parse(services={"gateway": {"scaling": given}}), "gateway").scaling
    assert scaling is not None
    assert scaling.hours == (Hours("Europe/London", "30 9 * * MON-SUN", "5 16 * * MON-SUN", 3),)


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_the_hours_of_the_stock_exchange_have_a_floor(stack: str) -> None:
    configuration = stackfile.configuration(stackfile.locate(stack))
    mine = {key.split(":", 1)[1]: value for key, value in configuration.items() if "tradestack:" in key}
    scaling = workload(parse(mine, file=stack), "price-service").scaling
    assert scaling is not None
    (hours,) = scaling.hours
    assert (hours.time_zone, hours.start, hours.end) == (
        "America/New_York",
        "30 9 * * MON-FRI",
        "0 16 * * MON-FRI",
    )
    assert scaling.minimum < hours.replicas <= scaling.maximum


def test_fixed_replicas_switch_the_autoscaler_off() -> None:
    item = workload(_parse(services={"gateway": {"replicas": 2}}), "gateway")
    assert item.scaling is None
    assert item.replicas == 2


def test_a_quota_that_is_not_given_keeps_its_default() -> None:
    quota = {
        "cpuRequest": 12,
        "cpuLimit": 60,
        "memoryRequest": "16Gi",
        "memoryLimit": "32Gi",
        "storage": "1Gi",
        "pods": 90,
    }
    settings = _parse(quotas={"trading-system": quota})
    assert str(settings.quotas["trading-system"].cpu_request) == "12"
    assert settings.quotas["trading-data"] == _parse().quotas["trading-data"]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        _parse().node_port = 31000  # type: ignore[misc]
