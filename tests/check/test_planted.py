"""Faults planted in the real production stack, one input at a time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from infra.check import checkov, terraform
from infra.plan import Plan, PlannedResource, documents
from infra.policy import check
from infra.progress import Steps

GONE = object()

FAULTS: list[tuple[str, str, str, str, Any]] = [
    # (assertion, kind, part of the name, path, new value)
    ("TS001", "eks/cluster:Cluster", "", "vpcConfig.endpointPrivateAccess", False),
    ("TS003", "eks/cluster:Cluster", "", "encryptionConfig", GONE),
    ("TS004", "eks/cluster:Cluster", "", "enabledClusterLogTypes", ["api"]),
    ("TS007", "ec2/launchTemplate:LaunchTemplate", "", "metadataOptions.httpTokens", "optional"),
    ("TS009", "eks/addon:Addon", "", "addonVersion", GONE),
    ("TS012", "ec2/subnet:Subnet", "", "mapPublicIpOnLaunch", True),
    ("TS016", "rds/instance:Instance", "database", "storageEncrypted", False),
    ("TS017", "rds/instance:Instance", "database", "multiAz", False),
    ("TS018", "rds/instance:Instance", "database", "publiclyAccessible", True),
    ("TS019", "rds/instance:Instance", "database", "deletionProtection", False),
    ("TS020", "rds/instance:Instance", "database", "backupRetentionPeriod", 7),
    ("TS021", "rds/instance:Instance", "database-replica-1", "iamDatabaseAuthenticationEnabled", False),
    ("TS027", "rds/instance:Instance", "database", "username", "postgres"),
    ("TS030", "elasticache/replicationGroup:ReplicationGroup", "", "transitEncryptionMode", "preferred"),
    ("TS032", "elasticache/replicationGroup:ReplicationGroup", "", "automaticFailoverEnabled", False),
    ("TS035", "msk/cluster:Cluster", "", "encryptionInfo.encryptionInTransit.clientBroker", "PLAINTEXT"),
    ("TS038", "msk/cluster:Cluster", "", "numberOfBrokerNodes", 2),
    ("TS045", "kms/key:Key", "", "enableKeyRotation", False),
    ("TS047", "sqs/queue:Queue", "", "kmsMasterKeyId", GONE),
    ("TS048", "lambda/function:Function", "", "tracingConfig", GONE),
    ("TS049", "cloudtrail/trail:Trail", "", "isMultiRegionTrail", False),
    ("TS050", "lb/loadBalancer:LoadBalancer", "edge", "enableDeletionProtection", False),
    ("TS051", "ecr/repository:Repository", "", "imageTagMutability", "MUTABLE"),
    ("TS053", "apps/v1:Deployment", "gateway", "spec.template.spec.containers.0.image", "app:latest"),
    ("TS054", "apps/v1:Deployment", "gateway", "spec.template.spec.automountServiceAccountToken", True),
    ("TS058", "apps/v1:Deployment", "gateway", "spec.template.spec.topologySpreadConstraints", GONE),
    ("TS061", "secretsmanager/secretVersion:SecretVersion", "", "secretString", "hunter2-in-clear"),
]


@pytest.fixture(scope="module")
def production(cloud_plans: list[Plan]) -> Plan:
    return documents.complete(next(found for found in cloud_plans if found.stack == "prod"))


def _with(value: Any, path: list[str], new: Any) -> Any:
    """A copy of `value` in which the one at `path` is `new`."""
    key, *rest = path
    if isinstance(value, list | tuple):
        copy = list(value)
        copy[int(key)] = _with(copy[int(key)], rest, new) if rest else new
        return copy
    changed = _with(value[key], rest, new) if rest else new
    return {
        **{name: item for name, item in value.items() if name != key},
        **({} if changed is GONE else {key: changed}),
    }


def _target(found: Plan, kind: str, name: str) -> PlannedResource:
    candidates = [item for item in found.resources if item.type.endswith(kind)]
    return next(item for item in candidates if item.name == name or not name)


def _changed(
    found: Plan, target: PlannedResource, change: Callable[[PlannedResource], PlannedResource]
) -> Plan:
    return replace(
        found, resources=tuple(change(item) if item is target else item for item in found.resources)
    )


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}-{fault[3].rsplit('.', 1)[-1]}")
def test_a_fault_in_production_is_found_where_it_is(
    fault: tuple[str, str, str, str, Any], production: Plan
) -> None:
    id_, kind, name, path, value = fault
    target = _target(production, kind, name)
    broken = _changed(
        production, target, lambda item: replace(item, inputs=_with(item.inputs, path.split("."), value))
    )
    found = {(item.id, item.resource) for item in check(broken)}
    assert found - {(item.id, item.resource) for item in check(production)} == {(id_, target.urn)}


@pytest.mark.parametrize(
    "kind", ["rds/instance:Instance", "s3/bucket:Bucket", "msk/cluster:Cluster", "kms/key:Key"]
)
def test_what_holds_data_in_production_must_be_protected(kind: str, production: Plan) -> None:
    target = _target(production, kind, "")
    broken = _changed(
        production, target, lambda item: replace(item, options=replace(item.options, protect=False))
    )
    found = {(item.id, item.resource) for item in check(broken)}
    assert found - {(item.id, item.resource) for item in check(production)} == {("TS062", target.urn)}


def test_checkov_finds_faults_planted_in_production(production: Plan, steps: Steps) -> None:
    planted = {
        "CKV_AWS_16": ("rds/instance:Instance", "database", "storageEncrypted", False),
        "CKV_AWS_30": (
            "elasticache/replicationGroup:ReplicationGroup",
            "",
            "transitEncryptionEnabled",
            False,
        ),
        "CKV_AWS_51": ("ecr/repository:Repository", "", "imageTagMutability", "MUTABLE"),
        "CKV_AWS_58": ("eks/cluster:Cluster", "", "encryptionConfig", GONE),
        "CKV_AWS_7": ("kms/key:Key", "", "enableKeyRotation", False),
    }
    broken, expected = production, set()
    for id_, (kind, name, path, value) in planted.items():
        target = _target(broken, kind, name)
        expected.add((id_, target.urn))
        inputs = _with(target.inputs, path.split("."), value)
        broken = _changed(broken, target, lambda item, inputs=inputs: replace(item, inputs=inputs))
    found = {(item.id, item.resource) for item in checkov.scan_aws(terraform.convert(broken), steps).findings}
    assert expected <= found
    assert not expected & {
        (item.id, item.resource) for item in checkov.scan_aws(terraform.convert(production), steps).findings
    }
