"""Feeds of a stack: what the collector is told, where it may connect to, who may read its key."""

import json
from typing import Any

import pytest

from infra.errors import TradestackError
from infra.plan import Plan, run
from infra.plan.model import PlannedResource

ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:alpha-vantage-AbCdEf"
OUTSIDE = {"sources": ["binance", "alpha-vantage", "simulated"], "alphaVantagePerDay": 500}


def _plan(stack: str, **feed: object) -> Plan:
    return run(stack, overrides={"tradestack:feed": json.dumps(feed)})


def _one(plan: Plan, type_: str, name: str) -> PlannedResource:
    (found,) = [item for item in plan.resources if item.type.endswith(type_) and item.name == name]
    return found


def _container(plan: Plan) -> dict[str, Any]:
    spec = _one(plan, "Deployment", "price-collector").inputs["spec"]["template"]["spec"]
    return {**spec["containers"][0], "volumes": spec["volumes"]}


def _variables(plan: Plan) -> dict[str, str]:
    return {
        each["name"]: each.get("value")
        for each in _container(plan)["env"]
        if each["name"].startswith("APP_FEED")
    }


def _outside(plan: Plan, role: str) -> list[int]:
    """Ports of networks beyond the data services that a role may connect to."""
    policy = _one(plan, "networking.k8s.io/v1:NetworkPolicy", role).inputs["spec"]
    return [
        rule["ports"][0]["port"]
        for rule in policy.get("egress", [])
        if rule["to"][0].get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    ]


def test_a_simulated_market_opens_nothing() -> None:
    plan = _plan("local", seed=7, ticksPerSecond=3)
    assert _variables(plan) == {"APP_FEED": "simulated", "APP_FEED_SEED": "7", "APP_FEED_RATE": "3"}
    assert _outside(plan, "price-collector") == []
    volume = next(each for each in _container(plan)["volumes"] if each["name"] == "secrets")
    keys = [item["key"] for item in volume["secret"]["items"]]
    assert keys == ["app_cache_password", "app_database_password"]


def test_sources_outside_are_reached_by_the_collector_alone() -> None:
    plan = _plan("local", **OUTSIDE, alphaVantageSecret="alpha-vantage", binanceUrl="wss://feed.example:9443")
    assert _variables(plan) == {
        "APP_FEED": "binance,alpha-vantage,simulated",
        "APP_FEED_SEED": "1",
        "APP_FEED_RATE": "2",
        "APP_FEED_BINANCE_URL": "wss://feed.example:9443",
        "APP_FEED_ALPHA_VANTAGE_URL": "https://www.alphavantage.co",
        "APP_FEED_ALPHA_VANTAGE_PER_MINUTE": "5",
        "APP_FEED_ALPHA_VANTAGE_PER_DAY": "500",
    }
    assert _outside(plan, "price-collector") == [443, 9443]
    for role in ("market-data", "price-service", "gateway", "wallet"):
        assert _outside(plan, role) == []
    volume = next(each for each in _container(plan)["volumes"] if each["name"] == "secrets")
    found = {each["secret"]["name"]: each["secret"]["items"] for each in volume["projected"]["sources"]}
    assert found["alpha-vantage"] == [{"key": "app_alpha_vantage_key", "path": "app_alpha_vantage_key"}]
    assert {item["key"] for item in found["app-secrets"]} == {"app_cache_password", "app_database_password"}


def test_the_key_comes_from_secrets_manager_in_the_cloud() -> None:
    plan = _plan("dev", **OUTSIDE, alphaVantageSecret=ARN)
    secret = _one(plan, ":ExternalSecret", "trading-system-feed-keys").inputs["spec"]
    assert secret["data"] == [{"secretKey": "app_alpha_vantage_key", "remoteRef": {"key": ARN}}]
    volume = next(each for each in _container(plan)["volumes"] if each["name"] == "secrets")
    assert "feed-keys" in [each["secret"]["name"] for each in volume["projected"]["sources"]]
    assert _outside(plan, "price-collector") == [443]


@pytest.mark.parametrize("stack", ["local", "dev", "prod"])
def test_a_feed_without_its_key_is_refused_before_anything_is_registered(
    stack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[str] = []
    monkeypatch.setattr("stacks.base.make_namespaces", lambda *_: registered.append("namespaces"))
    with pytest.raises(TradestackError, match=r"feed.alphaVantageSecret: missing \(allowed: where its key"):
        _plan(stack, sources=["alpha-vantage", "simulated"])
    assert registered == []
