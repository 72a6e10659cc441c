"""What the internet reaches, how, and what is refused and recorded on the way."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from components.aws.edge import Edge, EdgeArgs
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
ARGS = EdgeArgs(
    scope=SCOPE,
    vpc_id="vpc",
    subnet_ids=("subnet-a", "subnet-b", "subnet-c"),
    log_bucket="tradestack-test-logs-123456789012",
    domain="trade.example.com",
    hosted_zone_id="Z123",
    target_security_group_id="sg-cluster",
    target_port=10080,
    health_check_path="/healthz",
    rate_limit=3000,
    log_key_arn="arn:log-key",
    log_days=30,
    alerts_topic_arn="arn:topic",
)

Record = Callable[[Callable[[], object]], Any]


@pytest.fixture(autouse=True)
def computed(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """What AWS would answer beyond the inputs."""
    recorder = record.__globals__["Recorder"]
    answer = recorder.new_resource

    def with_computed(self: Any, args: Any) -> tuple[str, dict[str, Any]]:
        name, state = answer(self, args)
        kind = args.typ.rsplit(":", 1)[-1]
        if kind == "Certificate":
            state["domainValidationOptions"] = [
                {
                    "domainName": args.inputs["domainName"],
                    "resourceRecordName": "_proof.trade.example.com",
                    "resourceRecordType": "CNAME",
                    "resourceRecordValue": "_value.acm-validations.aws",
                }
            ]
        if kind in ("Certificate", "LoadBalancer", "TargetGroup", "WebAcl", "Listener"):
            state |= {"arn": f"arn:{kind}:{args.name}", "arnSuffix": f"suffix/{args.name}"}
            state |= {"dnsName": "lb.example.com", "zoneId": "ZLB"}
        if kind == "Record":
            state["fqdn"] = args.inputs["name"]
        return name, state

    monkeypatch.setattr(recorder, "new_resource", with_computed)


def _of(recorded: Any, kind: str) -> dict[str, dict[str, Any]]:
    return {item.name: item.inputs for item in recorded.custom() if item.typ.endswith(f":{kind}")}


def _registered(record: Record, **change: Any) -> Any:
    return record(lambda: Edge("edge", replace(ARGS, **change)))


def _openings(recorded: Any) -> set[tuple[str, str | None, int]]:
    """Who reaches which group on which port."""
    return {
        (
            item["securityGroupId"],
            item.get("cidrIpv4") or item.get("cidrIpv6") or item.get("referencedSecurityGroupId"),
            item["fromPort"],
        )
        for item in _of(recorded, "SecurityGroupIngressRule").values()
        if item["fromPort"] == item["toPort"]
    }


def test_only_443_is_open_and_only_the_load_balancer_reaches_the_pods(record: Record) -> None:
    recorded = _registered(record)
    assert _openings(recorded) == {("edge-id", "0.0.0.0/0", 443), ("sg-cluster", "edge-id", 10080)}
    assert len(_of(recorded, "SecurityGroupIngressRule")) == 2
    egress = recorded.one("SecurityGroupEgressRule")
    assert (egress["referencedSecurityGroupId"], egress["fromPort"]) == ("sg-cluster", 10080)
    assert set(_of(recorded, "Listener")) == {"edge-https"}


def test_port_80_when_asked_for_does_nothing_but_redirect(record: Record) -> None:
    recorded = _registered(record, redirect_http=True, client_cidrs=("203.0.113.0/24",))
    assert ("edge-id", "203.0.113.0/24", 80) in _openings(recorded)
    listener = _of(recorded, "Listener")["edge-redirect"]
    assert (listener["port"], listener["protocol"]) == (80, "HTTP")
    assert [item["type"] for item in listener["defaultActions"]] == ["redirect"]
    assert listener["defaultActions"][0]["redirect"]["protocol"] == "HTTPS"


def test_a_health_check_on_another_port_is_let_through(record: Record) -> None:
    recorded = _registered(record, health_check_port=19003)
    assert recorded.one("TargetGroup")["healthCheck"]["port"] == "19003"
    assert ("sg-cluster", "edge-id", 19003) in _openings(recorded)
    assert {item["fromPort"] for item in _of(recorded, "SecurityGroupEgressRule").values()} == {10080, 19003}


def test_the_load_balancer_is_logged_strict_with_headers_and_lets_websockets_live(record: Record) -> None:
    balancer = _registered(record, protect=True).one("LoadBalancer")
    assert balancer["internal"] is False
    assert balancer["enableDeletionProtection"] is True
    assert balancer["dropInvalidHeaderFields"] is True
    assert balancer["desyncMitigationMode"] in ("defensive", "strictest")
    assert balancer["idleTimeout"] > 3600
    for logs in ("accessLogs", "connectionLogs"):
        assert (balancer[logs]["enabled"], balancer[logs]["bucket"]) == (True, ARGS.log_bucket)
    assert balancer["accessLogs"]["prefix"] != balancer["connectionLogs"]["prefix"]


def test_https_serves_the_domain_with_its_certificate_and_no_other_host(record: Record) -> None:
    recorded = _registered(record)
    listener = recorded.one("Listener")
    assert (listener["port"], listener["protocol"]) == (443, "HTTPS")
    assert listener["sslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"
    assert listener["certificateArn"] == "arn:Certificate:edge"
    assert listener["defaultActions"][0]["fixedResponse"]["statusCode"] == "404"
    assert listener["routingHttpResponseStrictTransportSecurityHeaderValue"].startswith("max-age=31536000")
    assert listener["routingHttpResponseServerEnabled"] is False
    rule = recorded.one("ListenerRule")
    assert rule["conditions"] == [{"hostHeader": {"values": ["trade.example.com"]}}]
    assert rule["actions"] == [{"type": "forward", "targetGroupArn": "arn:TargetGroup:edge"}]


def test_the_certificate_proves_itself_in_the_zone_and_names_point_to_the_load_balancer(
    record: Record,
) -> None:
    recorded = _registered(record)
    certificate = recorded.one("Certificate")
    assert (certificate["domainName"], certificate["validationMethod"]) == ("trade.example.com", "DNS")
    proof = recorded.one("Record", "edge-validation")
    assert (proof["zoneId"], proof["name"]) == ("Z123", "_proof.trade.example.com")
    assert proof["records"] == ["_value.acm-validations.aws"]
    validation = recorded.one("CertificateValidation")
    assert validation["validationRecordFqdns"] == ["_proof.trade.example.com"]
    address = recorded.one("Record", "edge-a")
    assert (address["zoneId"], address["name"], address["type"]) == ("Z123", "trade.example.com", "A")
    assert address["aliases"][0]["name"] == "lb.example.com"
    assert "edge-aaaa" not in _of(recorded, "Record")


def test_ipv6_brings_its_record_and_its_rule(record: Record) -> None:
    recorded = _registered(record, ipv6=True)
    assert recorded.one("LoadBalancer")["ipAddressType"] == "dualstack"
    assert recorded.one("Record", "edge-aaaa")["type"] == "AAAA"
    assert ("edge-id", "::/0", 443) in _openings(recorded)


def test_targets_are_pod_addresses_without_affinity(record: Record) -> None:
    group = _registered(record).one("TargetGroup")
    assert (group["targetType"], group["protocol"], group["port"]) == ("ip", "HTTP", 10080)
    assert group["stickiness"]["enabled"] is False
    assert group["healthCheck"]["path"] == "/healthz"
    assert len(group["name"]) <= 32


def test_a_target_group_that_aws_must_replace_gets_another_name(record: Record) -> None:
    names = {
        _registered(record, **change).one("TargetGroup")["name"]
        for change in ({}, {"target_port": 10443}, {"target_protocol": "HTTPS"}, {"health_check_path": "/x"})
    }
    assert len(names) == 3


def test_names_within_32_characters_for_a_long_prefix(record: Record) -> None:
    scope = replace(SCOPE, prefix="tradestack-integration-environment")
    recorded = _registered(record, scope=scope)
    assert len(recorded.one("LoadBalancer")["name"]) <= 32
    assert len(recorded.one("TargetGroup")["name"]) <= 32


def test_the_firewall_stops_floods_bad_addresses_and_known_attacks(record: Record) -> None:
    recorded = _registered(record)
    acl = recorded.one("WebAcl")
    assert (acl["scope"], acl["defaultAction"]) == ("REGIONAL", {"allow": {}})
    assert recorded.one("WebAclAssociation")["resourceArn"] == "arn:LoadBalancer:edge"
    rules = sorted(acl["rules"], key=lambda item: item["priority"])
    assert len({item["priority"] for item in rules}) == len(rules)
    rate = rules[0]["statement"]["rateBasedStatement"]
    assert (rate["limit"], rate["aggregateKeyType"], rate["evaluationWindowSec"]) == (3000, "IP", 300)
    assert rules[0]["action"]["block"]["customResponse"]["responseCode"] == 429
    assert [item["name"] for item in rules[1:]] == [
        "AWSManagedRulesAmazonIpReputationList",
        "AWSManagedRulesAnonymousIpList",
        "AWSManagedRulesCommonRuleSet",
        "AWSManagedRulesKnownBadInputsRuleSet",
        "AWSManagedRulesSQLiRuleSet",
    ]
    assert all(item["overrideAction"] == {"none": {}} for item in rules[1:])


def test_documents_and_traders_programs_are_counted_not_refused(record: Record) -> None:
    counted = {
        item["name"]: [rule["name"] for rule in _overrides(item)]
        for item in _registered(record).one("WebAcl")["rules"]
        if _overrides(item)
    }
    assert counted == {
        "AWSManagedRulesCommonRuleSet": ["SizeRestrictions_BODY"],
        "AWSManagedRulesAnonymousIpList": ["HostingProviderIPList"],
    }


def _overrides(rule: dict[str, Any]) -> list[dict[str, Any]]:
    found = rule["statement"].get("managedRuleGroupStatement", {}).get("ruleActionOverrides", [])
    assert all(item["actionToUse"] == {"count": {}} for item in found)
    return list(found)


def test_anonymous_addresses_may_be_let_in(record: Record) -> None:
    rules = _registered(record, anonymous_ip=False).one("WebAcl")["rules"]
    assert "AWSManagedRulesAnonymousIpList" not in {item["name"] for item in rules}
    assert len(rules) == 5


def test_the_firewalls_log_is_encrypted_and_shows_no_credentials(record: Record) -> None:
    recorded = _registered(record)
    log = recorded.one("LogGroup")
    assert log["name"].startswith("aws-waf-logs-")
    assert (log["kmsKeyId"], log["retentionInDays"]) == ("arn:log-key", 30)
    logging = recorded.one("WebAclLoggingConfiguration")
    hidden = {item["singleHeader"]["name"] for item in logging["redactedFields"]}
    assert {"authorization", "cookie", "x-api-key"} == hidden
    kept = logging["loggingFilter"]
    assert kept["defaultBehavior"] == "DROP"
    actions = {item["actionCondition"]["action"] for item in kept["filters"][0]["conditions"]}
    assert (kept["filters"][0]["behavior"], {"BLOCK", "COUNT"} <= actions) == ("KEEP", True)
    statement = json.loads(recorded.one("LogResourcePolicy")["policyDocument"])["Statement"][0]
    assert statement["Principal"] == {"Service": "delivery.logs.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
    assert statement["Resource"][0].endswith(f":{log['name']}:*")


def test_operators_hear_of_sick_pods_errors_and_slowness(record: Record) -> None:
    alarms = _of(_registered(record, slowest_seconds=0.25), "MetricAlarm")
    assert {item["metricName"] for item in alarms.values()} == {
        "UnHealthyHostCount",
        "HTTPCode_Target_5XX_Count",
        "HTTPCode_ELB_5XX_Count",
        "TargetResponseTime",
    }
    assert all(item["alarmActions"] == item["okActions"] == ["arn:topic"] for item in alarms.values())
    slow = alarms["edge-slow"]
    assert (slow["extendedStatistic"], slow["threshold"]) == ("p99", 0.25)
    assert slow["evaluateLowSampleCountPercentiles"] == "ignore"
    assert slow["dimensions"] == {"LoadBalancer": "suffix/edge", "TargetGroup": "suffix/edge"}
    assert alarms["edge-balancer-errors"]["dimensions"] == {"LoadBalancer": "suffix/edge"}


def test_the_address_of_the_platform(record: Record) -> None:
    found: list[str] = []

    def build() -> None:
        edge = Edge("edge", ARGS)
        pulumi.Output.all(edge.url, edge.target_group_arn, edge.web_acl_arn).apply(found.extend)

    record(build)
    assert found == ["https://trade.example.com", "arn:TargetGroup:edge", "arn:WebAcl:edge-firewall"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domain": "Trade.example.com"}, "domain 'Trade.example.com': a name in lower case"),
        ({"domain": "*.example.com"}, r"domain '\*.example.com'"),
        ({"tls_policy": "ELBSecurityPolicy-2016-08"}, "TLS policy 'ELBSecurityPolicy-2016-08'"),
        ({"tls_policy": "ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06"}, "with forward secrecy"),
        ({"client_cidrs": ()}, "client addresses: at least one"),
        ({"health_check_path": "healthz"}, "health check path 'healthz': must begin with /"),
        ({"idle_timeout_seconds": 4001}, "idle timeout 4001 s: from 1 to 4000"),
        ({"deregistration_seconds": 3601}, "deregistration delay 3601 s: from 0 to 3600"),
    ],
)
def test_bad_arguments_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Edge("edge", replace(ARGS, **change))


def test_a_rate_that_waf_refuses_is_refused_here(record: Record) -> None:
    with pytest.raises(ValueError, match="rate limit 9: from 10"):
        _registered(record, rate_limit=9)
