"""The plan in Terraform's words."""

import importlib
import inspect
import json
import re
from functools import cache
from typing import Any

import pytest

from infra.check.terraform import convert
from infra.check.terraform_names import attribute, is_map, snake, type_name
from infra.plan import Plan, Secret
from tests.policy.good import Ref, plan


@pytest.mark.parametrize(
    ("token", "name"),
    [
        ("aws:ec2/vpc:Vpc", "aws_vpc"),
        ("aws:ec2/vpcEndpoint:VpcEndpoint", "aws_vpc_endpoint"),
        ("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "aws_vpc_security_group_ingress_rule"),
        (
            "aws:ec2/vpcIpv4CidrBlockAssociation:VpcIpv4CidrBlockAssociation",
            "aws_vpc_ipv4_cidr_block_association",
        ),
        ("aws:rds/instance:Instance", "aws_db_instance"),
        ("aws:rds/eventSubscription:EventSubscription", "aws_db_event_subscription"),
        ("aws:lb/loadBalancer:LoadBalancer", "aws_lb"),
        ("aws:lb/targetGroup:TargetGroup", "aws_lb_target_group"),
        ("aws:cloudtrail/trail:Trail", "aws_cloudtrail"),
        ("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "aws_s3_bucket_public_access_block"),
        ("aws:wafv2/webAcl:WebAcl", "aws_wafv2_web_acl"),
        ("aws:eks/podIdentityAssociation:PodIdentityAssociation", "aws_eks_pod_identity_association"),
        ("aws:codedeploy/application:Application", "aws_codedeploy_app"),
        ("aws:costexplorer/anomalyMonitor:AnomalyMonitor", "aws_ce_anomaly_monitor"),
    ],
)
def test_types(token: str, name: str) -> None:
    assert type_name(token) == name


@pytest.mark.parametrize(
    ("type_", "given", "blocks", "name"),
    [
        ("aws_lb_listener", "defaultActions", True, "default_action"),
        ("aws_db_parameter_group", "parameters", True, "parameter"),
        ("aws_launch_template", "blockDeviceMappings", True, "block_device_mappings"),
        ("aws_kinesis_firehose_delivery_stream", "parameters", True, "parameters"),
        ("aws_appautoscaling_policy", "dimensions", True, "dimensions"),
        ("aws_wafv2_web_acl_logging_configuration", "redactedFields", True, "redacted_fields"),
        ("aws_lambda_function", "entryPoints", False, "entry_point"),
        ("aws_ecs_service", "capacityProviderStrategies", True, "capacity_provider_strategy"),
        ("aws_default_security_group", "ingress", True, "ingress"),
        ("aws_route53_record", "aliases", True, "alias"),
        ("aws_eks_cluster", "enabledClusterLogTypes", False, "enabled_cluster_log_types"),
        ("aws_vpc", "enableDnsHostnames", False, "enable_dns_hostnames"),
        ("aws_sns_topic_subscription", "topic", False, "topic_arn"),
        ("aws_cloudwatch_metric_alarm", "name", False, "alarm_name"),
        ("aws_eks_cluster", "serviceIpv4Cidr", False, "service_ipv4_cidr"),
    ],
)
def test_attributes(type_: str, given: str, blocks: bool, name: str) -> None:
    assert attribute(type_, given, blocks=blocks) == name


def one(found: dict[tuple[str, str], dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values and expressions of the last resource."""
    document = json.loads(json.dumps(convert(plan(found)).document))
    values = document["planned_values"]["root_module"]["resources"][-1]
    configured = document["configuration"]["root_module"]["resources"][-1]
    assert values["address"] == configured["address"] == document["resource_changes"][-1]["address"]
    return values, configured


def test_nested_objects_are_blocks_and_maps_stay_maps() -> None:
    values, _ = one(
        {
            ("aws:lambda/function:Function", "report"): {
                "environment": {"variables": {"camelCase": "kept"}},
                "tags": {"CostCenter": "x"},
                "layers": ["a", "b"],
            }
        }
    )
    assert values["values"] == {
        "environment": [{"variables": {"camelCase": "kept"}}],
        "tags": {"CostCenter": "x"},
        "layers": ["a", "b"],
    }


def test_a_map_of_one_type_is_a_block_of_another() -> None:
    pipeline, _ = one(
        {("aws:codepipeline/pipeline:Pipeline", "x"): {"configuration": {"BranchName": "main"}}}
    )
    cluster, _ = one(
        {("aws:ecs/cluster:Cluster", "x"): {"configuration": {"executeCommandConfiguration": {}}}}
    )
    assert pipeline["values"] == {"configuration": {"BranchName": "main"}}
    assert cluster["values"] == {"configuration": [{"execute_command_configuration": [{}]}]}


def test_unknown_values_refer_to_where_they_come_from() -> None:
    found = {
        ("aws:kms/key:Key", "data"): {},
        ("aws:iam/role:Role", "replica"): {},
        ("aws:s3/bucket:Bucket", "reports"): {},
        ("aws:s3/bucketLogging:BucketLogging", "x"): {
            "bucket": Ref("Bucket/reports"),
            "nested": {"kmsKeyArn": Ref("Key/data"), "roleArn": Ref("Role/replica")},
        },
    }
    values, configured = one(found)
    assert values["values"]["bucket"] == "aws_s3_bucket.reports.id"
    assert values["values"]["nested"] == [
        {"kms_key_arn": "aws_kms_key.data.arn", "role_arn": "aws_iam_role.replica.arn"}
    ]
    assert configured["expressions"]["bucket"] == {
        "references": ["aws_s3_bucket.reports.id", "aws_s3_bucket.reports"]
    }
    assert configured["expressions"]["nested"]["references"][::2] == [
        "aws_iam_role.replica.id",
        "aws_kms_key.data.id",
    ]


def test_secrets_are_masked() -> None:
    values, _ = one(
        {("aws:elasticache/replicationGroup:ReplicationGroup", "x"): {"authToken": Secret("hunter2")}}
    )
    assert values["values"] == {"auth_token": "(sensitive value)"}


def test_two_resources_of_one_name_have_two_addresses() -> None:
    one_of = plan({("aws:kms/key:Key", "a b"): {}, ("aws:kms/key:Key", "a_b"): {}})
    made = convert(one_of)
    assert list(made.urns) == ["aws_kms_key.a_b", "aws_kms_key.a_b-2"]
    assert set(made.urns.values()) == {item.urn for item in one_of.resources}


def test_what_is_not_aws_is_left_out() -> None:
    assert (
        convert(
            plan(
                {
                    ("kubernetes:core/v1:Secret", "x"): {},
                    ("random:index/randomPassword:RandomPassword", "x"): {},
                }
            )
        ).urns
        == {}
    )


@cache
def _declared_maps(token: str) -> dict[str, bool]:
    """Whether each object among the inputs of a type is a map of anything, by the provider's own types."""
    module, kind = token.split(":")[1].split("/")[0], token.rsplit(":", 1)[-1]
    package = importlib.import_module(f"pulumi_aws.{ {'lambda': 'lambda_'}.get(module, module) }")
    source = inspect.getsource(getattr(package, f"{kind}Args"))
    named = re.findall(
        r"(?:@pulumi\.getter\(name=\"(\w+)\"\)|@_builtins\.property)[^@]*?def (\w+)\(self\) -> (.*?):\n",
        source,
    )
    return {given or plain: "Mapping[" in type_ for given, plain, type_ in named}


def test_maps_of_every_stack_are_those_of_the_provider(cloud_plans: list[Plan]) -> None:
    """A map taken for a block would have its keys respelled; a block taken for a map would be overlooked."""
    seen = 0
    for item in (resource for found in cloud_plans for resource in found.resources):
        if not item.type.startswith("aws:"):
            continue
        declared = _declared_maps(item.type)
        for key, value in item.inputs.items():
            if isinstance(value, dict) and key in declared:
                seen += 1
                assert is_map(type_name(item.type), snake(key)) == declared[key], f"{item.type} {key}"
    assert seen > 50
