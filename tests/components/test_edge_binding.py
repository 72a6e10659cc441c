"""The load balancer's targets and the issuer of certificates."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from components.kubernetes.edge_binding import (
    LETS_ENCRYPT_STAGING,
    Issuer,
    IssuerArgs,
    TargetGroupBinding,
    TargetGroupBindingArgs,
)

BINDING = TargetGroupBindingArgs("envoy-gateway-system", "edge", 443, "arn:group", "vpc-1")
ISSUER = IssuerArgs("ops@example.com", "trading.example.com", "Z0ABCDEFGHIJ", "eu-west-1")
Record = Callable[[Callable[[], object]], Any]


def test_pods_of_the_service_are_targets_by_their_addresses(record: Record) -> None:
    made = record(lambda: TargetGroupBinding("edge", BINDING)).one("TargetGroupBinding")
    assert made["apiVersion"] == "elbv2.k8s.aws/v1beta1"
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("edge", "envoy-gateway-system")
    # No `networking`: the controller would change security groups.
    assert made["spec"] == {
        "serviceRef": {"name": "edge", "port": 443},
        "targetGroupARN": "arn:group",
        "targetType": "ip",
        "ipAddressType": "ipv4",
        "vpcID": "vpc-1",
    }


def test_the_domain_is_proved_in_its_zone(record: Record) -> None:
    made = record(lambda: Issuer("letsencrypt", ISSUER)).one("ClusterIssuer")
    acme = made["spec"]["acme"]
    assert made["metadata"]["name"] == "letsencrypt"
    assert acme["server"] == "https://acme-v02.api.letsencrypt.org/directory"
    assert acme["email"] == "ops@example.com"
    assert acme["solvers"] == [
        {
            "selector": {"dnsZones": ["trading.example.com"]},
            "dns01": {"route53": {"region": "eu-west-1", "hostedZoneID": "Z0ABCDEFGHIJ"}},
        }
    ]


def test_trials_use_the_directory_without_limits(record: Record) -> None:
    made = record(lambda: Issuer("trial", replace(ISSUER, server=LETS_ENCRYPT_STAGING)))
    assert "staging" in made.one("ClusterIssuer")["spec"]["acme"]["server"]
    assert made.one("ClusterIssuer")["spec"]["acme"]["privateKeySecretRef"] == {"name": "trial-account"}
