"""Every pricing function against an amount computed by hand from the list price, for 730 hours."""

from decimal import Decimal
from typing import Any

import pytest

from infra.cost import View, estimate
from infra.errors import TradestackError
from infra.plan import UNKNOWN
from tests.cost.plans import lines_of, node_group, plan_of, resource, usd_of

Case = tuple[str, dict[str, Any], dict[str, str]]

CASES: list[Case] = [
    ("aws:eks/cluster:Cluster", {"version": "1.35"}, {"EKS control plane": "73"}),
    (
        "aws:eks/cluster:Cluster",
        {"version": "1.31"},
        {"EKS control plane": "73", "extended support of 1.31": "365"},
    ),
    (
        "aws:ec2/instance:Instance",
        {"instanceType": "t3.medium"},
        {"t3.medium": "30.368", "root volume": "0.64"},
    ),
    ("aws:ebs/volume:Volume", {"size": 100, "type": "gp3"}, {"volume": "8"}),
    # 100,000 requests of 1 s and 512 MB: 50,000 GB-seconds.
    (
        "aws:lambda/function:Function",
        {"memorySize": 512, "architectures": ["arm64"]},
        {"requests": "0.02", "512 MB (arm)": "0.66667"},
    ),
    (
        "aws:lambda/function:Function",
        {"memorySize": 512},
        {"requests": "0.02", "512 MB (x86)": "0.833335"},
    ),
    ("aws:ec2/natGateway:NatGateway", {}, {"NAT gateway": "32.85", "data processed": "0.9"}),
    ("aws:ec2/eip:Eip", {}, {"public IPv4 address": "3.65"}),
    (
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        {"vpcEndpointType": "Interface", "subnetIds": ["a", "b", "c"]},
        {"interface endpoint in 3 zones": "21.9", "data processed": "0.15"},
    ),
    ("aws:ec2/vpcEndpoint:VpcEndpoint", {"vpcEndpointType": "Gateway"}, {}),
    # 50 GB out; 100 GB between zones, paid on both sides.
    (
        "aws:ec2/vpc:Vpc",
        {},
        {"data to the internet": "4.5", "data between zones, both directions": "2"},
    ),
    (
        "aws:lb/loadBalancer:LoadBalancer",
        {"loadBalancerType": "application", "subnets": ["a", "b", "c"]},
        {"application load balancer": "16.425", "capacity units": "5.84", "3 public IPv4 addresses": "10.95"},
    ),
    (
        "aws:lb/loadBalancer:LoadBalancer",
        {"loadBalancerType": "network", "internal": True, "subnets": ["a", "b"]},
        {"network load balancer": "16.425", "capacity units": "4.38"},
    ),
    (
        "aws:lb/loadBalancer:LoadBalancer",
        {"loadBalancerType": "network", "subnetMappings": [{"subnetId": "a", "allocationId": "b"}]},
        {"network load balancer": "16.425", "capacity units": "4.38"},
    ),
    ("aws:route53/zone:Zone", {}, {"hosted zone": "0.5", "queries": "0.4"}),
    (
        "aws:route53/healthCheck:HealthCheck",
        {"type": "HTTPS"},
        {"health check": "0.75", "HTTPS option": "2"},
    ),
    (
        "aws:rds/instance:Instance",
        {"instanceClass": "db.t4g.medium", "allocatedStorage": 100, "storageType": "gp3"},
        {"db.t4g.medium, Single-AZ": "47.45", "gp3 storage of 100 GiB": "11.5"},
    ),
    (
        "aws:rds/instance:Instance",
        {
            "instanceClass": "db.m7g.large",
            "allocatedStorage": 100,
            "multiAz": True,
            "iops": 4000,
            "manageMasterUserPassword": True,
        },
        {
            "db.m7g.large, Multi-AZ": "245.28",
            "gp3 storage of 100 GiB": "23",
            "IOPS beyond the included": "40",
            "managed master secret": "0.4",
        },
    ),
    (
        "aws:rds/instance:Instance",
        {
            "instanceClass": "db.m7g.xlarge",
            "allocatedStorage": 100,
            "databaseInsightsMode": "advanced",
            "monitoringInterval": 15,
        },
        {
            "db.m7g.xlarge, Single-AZ": "246.01",
            "gp3 storage of 100 GiB": "11.5",
            "Database Insights of 4 vCPUs": "36.5",
            "operating system metrics": "0.5",
        },
    ),
    # 12,000 IOPS are included from 400 GiB on.
    (
        "aws:rds/instance:Instance",
        {"instanceClass": "db.t4g.small", "allocatedStorage": 400, "iops": 12000},
        {"db.t4g.small, Single-AZ": "23.36", "gp3 storage of 400 GiB": "46"},
    ),
    # Half of 100 GiB holds data; with 35 days of 2 % that is 85 GiB, less than is included.
    (
        "aws:rds/instance:Instance",
        {"instanceClass": "db.t4g.small", "allocatedStorage": 100, "backupRetentionPeriod": 35},
        {"db.t4g.small, Single-AZ": "23.36", "gp3 storage of 100 GiB": "11.5"},
    ),
    (
        "aws:elasticache/replicationGroup:ReplicationGroup",
        {"engine": "valkey", "nodeType": "cache.t4g.small", "numCacheClusters": 2},
        {"2 x cache.t4g.small (valkey)": "37.376"},
    ),
    (
        "aws:elasticache/replicationGroup:ReplicationGroup",
        {
            "engine": "valkey",
            "nodeType": "cache.m7g.large",
            "numNodeGroups": 3,
            "replicasPerNodeGroup": 1,
            "snapshotRetentionLimit": 7,
        },
        {"6 x cache.m7g.large (valkey)": "553.632", "snapshots beyond the first of 7": "1.53"},
    ),
    (
        "aws:msk/cluster:Cluster",
        {
            "numberOfBrokerNodes": 3,
            "brokerNodeGroupInfo": {
                "instanceType": "kafka.m7g.large",
                "storageInfo": {"ebsStorageInfo": {"volumeSize": 200}},
            },
            "enhancedMonitoring": "PER_BROKER",
        },
        {
            "3 x kafka.m7g.large": "446.76",
            "storage of 200 GiB per broker": "60",
            "metrics beyond the free level": "36",
        },
    ),
    (
        "aws:kinesis/stream:Stream",
        {"streamModeDetails": {"streamMode": "ON_DEMAND"}},
        {"on-demand stream": "29.2", "data written": "1.6", "data read": "0.8"},
    ),
    (
        "aws:kinesis/stream:Stream",
        {"shardCount": 2, "retentionPeriod": 48},
        {"2 shards": "21.9", "put units": "0.29360128", "retention beyond a day": "29.2"},
    ),
    (
        "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream",
        {},
        {"data delivered": "0.58"},
    ),
    ("aws:s3/bucket:Bucket", {}, {"objects": "1.15", "writes and lists": "0.5", "reads": "0.2"}),
    ("aws:ecr/repository:Repository", {}, {"images": "0.5"}),
    ("aws:ecr/pullThroughCacheRule:PullThroughCacheRule", {}, {"cached images": "0.5"}),
    ("aws:sqs/queue:Queue", {}, {"requests": "0.4"}),
    ("aws:sqs/queue:Queue", {"fifoQueue": True}, {"requests": "0.5"}),
    ("aws:sns/topic:Topic", {}, {"publishes": "0.25"}),
    ("aws:sns/topicSubscription:TopicSubscription", {"protocol": "sqs"}, {}),
    ("aws:sns/topicSubscription:TopicSubscription", {"protocol": "email"}, {"e-mails": "0.02"}),
    ("aws:sns/topicSubscription:TopicSubscription", {"protocol": "sms"}, {"text messages": "0.987"}),
    ("aws:sesv2/emailIdentity:EmailIdentity", {}, {"e-mails to users": "1"}),
    ("aws:cloudwatch/eventBus:EventBus", {}, {"custom events": "1"}),
    ("aws:scheduler/schedule:Schedule", {}, {"calls, at most": "0.0438"}),
    ("aws:kms/key:Key", {}, {"customer key": "1", "requests": "0.3"}),
    ("aws:kms/replicaKey:ReplicaKey", {}, {"customer key": "1", "requests": "0.3"}),
    ("aws:secretsmanager/secret:Secret", {}, {"secret": "0.4", "reads": "0.05"}),
    (
        "aws:wafv2/webAcl:WebAcl",
        {"rules": [{"name": "common"}, {"name": "rate"}]},
        {"web ACL": "5", "2 rules": "2", "requests": "6"},
    ),
    # 1 GB written; kept 30.4 days that is 1 GB-month.
    (
        "aws:cloudwatch/logGroup:LogGroup",
        {"retentionInDays": "30.4"},
        {"logs written": "0.5", "logs kept 30.4 days": "0.03"},
    ),
    (
        "aws:cloudwatch/logGroup:LogGroup",
        {"name": "/aws/eks/prod/cluster", "retentionInDays": "60.8", "logGroupClass": "INFREQUENT_ACCESS"},
        {"logs written": "2.5", "logs kept 60.8 days": "0.6"},
    ),
    (
        "aws:cloudwatch/logGroup:LogGroup",
        {"name": "/aws/containerinsights/prod/performance", "retentionInDays": "30.4"},
        {"logs written": "2", "logs kept 30.4 days": "0.12", "metrics of Container Insights": "9"},
    ),
    ("aws:cloudwatch/metricAlarm:MetricAlarm", {"period": 60}, {"alarm": "0.1"}),
    ("aws:cloudwatch/metricAlarm:MetricAlarm", {"period": 10}, {"alarm": "0.3"}),
    (
        "aws:cloudwatch/metricAlarm:MetricAlarm",
        {"metricQueries": [{"expression": "a/b"}, *({"metric": {"metricName": name}} for name in "ab")]},
        {"alarm on 2 metrics": "0.2"},
    ),
    ("aws:cloudwatch/compositeAlarm:CompositeAlarm", {}, {"composite alarm": "0.5"}),
    ("aws:cloudwatch/logMetricFilter:LogMetricFilter", {}, {"custom metric": "0.3"}),
    ("aws:cloudwatch/dashboard:Dashboard", {}, {"dashboard": "3"}),
    ("aws:cloudtrail/trail:Trail", {}, {}),
    (
        "aws:cloudtrail/trail:Trail",
        {"eventSelectors": [{"dataResources": [{"type": "AWS::S3::Object"}]}]},
        {"data events": "1"},
    ),
    (
        "aws:cloudtrail/trail:Trail",
        {"insightSelectors": [{"insightType": "ApiCallRateInsight"}, {"insightType": "ApiErrorRateInsight"}]},
        {"events looked at": "7"},
    ),
    ("aws:xray/samplingRule:SamplingRule", {}, {"traces recorded": "1"}),
    (
        "aws:codebuild/project:Project",
        {"environment": {"type": "LINUX_CONTAINER", "computeType": "BUILD_GENERAL1_MEDIUM"}},
        {"build minutes": "3"},
    ),
    ("aws:codepipeline/pipeline:Pipeline", {"pipelineType": "V2"}, {"action minutes": "0.9"}),
    ("aws:codepipeline/pipeline:Pipeline", {}, {"active pipeline": "1"}),
]


@pytest.mark.parametrize(("token", "inputs", "expected"), CASES)
def test_amounts_by_hand(token: str, inputs: dict[str, Any], expected: dict[str, str]) -> None:
    found = usd_of(resource(token, "it", inputs))
    assert found == {what: Decimal(usd) for what, usd in expected.items()}


def test_node_group_pays_instances_and_root_volumes() -> None:
    usd = usd_of(node_group(nodes=3, kind="t3.medium", diskSize=100))
    assert usd == {"3 x t3.medium": Decimal("91.104"), "root volumes of 100 GiB": 24}


def test_spot_group_is_priced_as_spot_on_demand_view() -> None:
    usd = usd_of(node_group(nodes=2, kind="m7g.large", capacityType="SPOT"))
    # 2 x 730 x 0.0816, less 60 %.
    assert usd["2 x m7g.large, Spot"] == Decimal("47.6544")


def test_launch_template_gives_the_disk_and_the_type() -> None:
    template = resource(
        "aws:ec2/launchTemplate:LaunchTemplate",
        "lt",
        {"instanceType": "c7g.large", "blockDeviceMappings": [{"ebs": {"volumeSize": 50}}]},
    )
    group = resource(
        "aws:eks/nodeGroup:NodeGroup",
        "performance",
        {"scalingConfig": {"desiredSize": 2}, "launchTemplate": {"id": UNKNOWN, "version": UNKNOWN}},
        needs={"launchTemplate": template},
    )
    found = estimate(plan_of(template, group))
    assert {line.what: line.monthly_usd for line in found.lines} == {
        "2 x c7g.large": Decimal("105.85"),
        "root volumes of 50 GiB": 8,
    }
    assert found.free == {template.type: 1}


def test_fargate_service_runs_all_month_and_its_definition_is_not_counted_twice() -> None:
    definition = resource(
        "aws:ecs/taskDefinition:TaskDefinition",
        "notification",
        {"cpu": "512", "memory": "1024", "runtimePlatform": {"cpuArchitecture": "ARM64"}},
    )
    service = resource(
        "aws:ecs/service:Service", "notification", {"desiredCount": 2}, needs={"taskDefinition": definition}
    )
    # 2 x 730 x 0.5 x 0.03238 and 2 x 730 x 1 x 0.00356.
    assert usd_of(definition, service) == {
        "2 x 0.5 vCPU (arm)": Decimal("23.6374"),
        "2 x 1 GB (arm)": Decimal("5.1976"),
    }


def test_job_definition_runs_its_assumed_hours() -> None:
    definition = resource("aws:ecs/taskDefinition:TaskDefinition", "job", {"cpu": "1024", "memory": "2048"})
    assert usd_of(definition) == {
        "job 1 vCPU (x86)": Decimal("0.6072"),
        "job 2 GB (x86)": Decimal("0.13335"),
    }


def test_replica_has_the_storage_of_its_source() -> None:
    primary = resource(
        "aws:rds/instance:Instance", "db", {"instanceClass": "db.t4g.large", "allocatedStorage": 200}
    )
    replica = resource(
        "aws:rds/instance:Instance",
        "db-replica",
        {"instanceClass": "db.t4g.large", "replicateSourceDb": UNKNOWN},
        needs={"replicateSourceDb": primary},
    )
    storage = [line for line in lines_of(primary, replica) if "storage" in line.what]
    assert [line.monthly_usd for line in storage] == [23, 23]


def test_objects_move_to_the_class_of_the_first_transition() -> None:
    bucket = resource("aws:s3/bucket:Bucket", "archive")
    moves = [{"days": 365, "storageClass": "DEEP_ARCHIVE"}, {"days": 90, "storageClass": "GLACIER_IR"}]
    lifecycle = resource(
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        "archive",
        {"rules": [{"expiration": {"days": 9}}, {"transitions": moves}]},
        needs={"bucket": bucket},
    )
    usd = usd_of(bucket, lifecycle)
    assert usd["objects in GLACIER_IR"] == Decimal("0.1")
    assert usd["objects"] == Decimal("0.575")


def test_backups_keep_one_copy_and_the_changes() -> None:
    database = resource(
        "aws:rds/instance:Instance", "db", {"instanceClass": "db.t4g.micro", "allocatedStorage": 100}
    )
    rules = [
        {
            "ruleName": "daily",
            "lifecycle": {"deleteAfter": 31},
            "copyActions": [{"lifecycle": {"deleteAfter": 11}}],
        }
    ]
    usd = usd_of(database, resource("aws:backup/plan:Plan", "backup", {"rules": rules}))
    # 50 GB of data, 1 GB a day of change: 80 GB and 60 GB at 0.095, 30 GB transferred at 0.02.
    assert usd["daily: recovery points, 31 days"] == Decimal("7.6")
    assert usd["daily: copy 1, 11 days"] == Decimal("5.7")
    assert usd["daily: transfer of copies"] == Decimal("0.6")


def test_restores_are_tested_as_often_as_planned() -> None:
    plan = resource(
        "aws:backup/restoreTestingPlan:RestoreTestingPlan",
        "tests",
        {"scheduleExpression": "cron(0 6 ? * SUN,WED *)"},
    )
    selection = resource(
        "aws:backup/restoreTestingSelection:RestoreTestingSelection",
        "tests-rds",
        {"protectedResourceArns": ["arn:one"]},
        needs={"restoreTestingPlanName": plan},
    )
    # 2 a week, 730 / 168 weeks a month.
    assert usd_of(plan, selection)["2 restores a week"] == pytest.approx(
        Decimal("13.0357"), abs=Decimal("0.0001")
    )


def test_dead_letters_cost_nothing() -> None:
    dead = resource("aws:sqs/queue:Queue", "report-dead")
    queue = resource(
        "aws:sqs/queue:Queue", "report", {"redrivePolicy": UNKNOWN}, needs={"redrivePolicy": dead}
    )
    assert [line.resource for line in lines_of(dead, queue)] == ["report"]


def test_dead_letters_of_functions_cost_nothing() -> None:
    dead = resource("aws:sqs/queue:Queue", "functions-dead")
    function = resource(
        "aws:lambda/function:Function", "report", {"deadLetterConfig": {}}, needs={"deadLetterConfig": dead}
    )
    assert {line.resource for line in lines_of(dead, function)} == {"report"}


def test_backups_beyond_the_size_of_the_database_are_paid() -> None:
    database = resource(
        "aws:rds/instance:Instance",
        "db",
        {"instanceClass": "db.t4g.small", "allocatedStorage": 100, "backupRetentionPeriod": 30},
    )
    usd = usd_of(database, usage={"database_fill": 1, "database_change": "0.1"})
    # 100 GiB and 30 days of 10 GiB each, of which 100 GiB are included.
    assert usd["automated backups of 30 days beyond the included"] == Decimal("28.5")


def test_log_groups_of_one_kind_share_what_is_written() -> None:
    groups = [
        resource("aws:cloudwatch/logGroup:LogGroup", name, {"name": f"/flow/{name}", "retentionInDays": 30})
        for name in "ab"
    ]
    written = [
        line.quantity for line in lines_of(*groups, node_group(nodes=4)) if line.what == "logs written"
    ]
    assert written == [6, 6]


def test_volumes_and_load_balancers_of_the_cluster_are_paid_on_aws() -> None:
    cluster = resource("aws:eks/cluster:Cluster", "eks", {"version": "1.35"})
    claim = {"spec": {"resources": {"requests": {"storage": "10Gi"}}}}
    broker = resource(
        "kubernetes:apps/v1:StatefulSet", "kafka", {"spec": {"replicas": 3, "volumeClaimTemplates": [claim]}}
    )
    scratch = resource("kubernetes:core/v1:PersistentVolumeClaim", "scratch", claim)
    public = resource("kubernetes:core/v1:Service", "edge", {"spec": {"type": "LoadBalancer"}})
    inner = resource("kubernetes:core/v1:Service", "gateway", {"spec": {"type": "ClusterIP"}})
    found = estimate(plan_of(cluster, broker, scratch, public, inner))
    by_resource = {line.resource: line.monthly_usd for line in found.lines if "unit" not in line.what}
    assert by_resource == {
        "eks": 73,
        "kafka": Decimal("2.4"),
        "scratch": Decimal("0.8"),
        "edge": Decimal("16.425"),
    }
    assert not found.unpriced


def test_storage_in_an_unknown_unit_is_refused() -> None:
    cluster = resource("aws:eks/cluster:Cluster", "eks")
    spec = {"spec": {"resources": {"requests": {"storage": "10Zi"}}}}
    with pytest.raises(TradestackError, match=r"data .*10Zi"):
        lines_of(cluster, resource("kubernetes:core/v1:PersistentVolumeClaim", "data", spec))


def test_every_priced_type_has_a_case() -> None:
    from infra.cost.catalog import PRICED

    elsewhere = {
        "aws:eks/nodeGroup:NodeGroup",
        "aws:ecs/service:Service",
        "aws:ecs/taskDefinition:TaskDefinition",
        "aws:backup/plan:Plan",
        "aws:backup/restoreTestingSelection:RestoreTestingSelection",
        "aws:s3/bucketV2:BucketV2",
        "kubernetes:apps/v1:StatefulSet",
        "kubernetes:core/v1:PersistentVolumeClaim",
        "kubernetes:core/v1:Service",
    }
    assert {token for token, _, _ in CASES} | elsewhere == set(PRICED)


def test_spot_saves_on_groups_that_tolerate_interruption_only() -> None:
    general = node_group("general", nodes=2)
    tainted = node_group("performance", kind="c7g.large", taints=[{"key": "role", "effect": "NO_SCHEDULE"}])
    spot = node_group("spot", capacityType="SPOT")
    found = estimate(plan_of(general, tainted, spot))
    # 2 x 730 x 0.0816 x 0.6: only the general group moves.
    assert found.saving_usd(View.SPOT) == Decimal("71.4816")


def test_savings_plan_covers_what_runs_all_month_on_demand() -> None:
    database = resource(
        "aws:rds/instance:Instance", "db", {"instanceClass": "db.t4g.medium", "allocatedStorage": 20}
    )
    plan = plan_of(node_group(), node_group("s", capacityType="SPOT"), database)
    saved = estimate(plan).saving_usd(View.SAVINGS_PLAN)
    assert saved == Decimal("59.568") * Decimal("0.279") + Decimal("47.45") * Decimal("0.296")


def test_schedule_view_stops_what_can_be_stopped() -> None:
    cache = resource(
        "aws:elasticache/replicationGroup:ReplicationGroup",
        "cache",
        {"engine": "valkey", "nodeType": "cache.t4g.small"},
    )
    database = resource(
        "aws:rds/instance:Instance", "db", {"instanceClass": "db.t4g.medium", "allocatedStorage": 20}
    )
    found = estimate(plan_of(node_group(), database, cache))
    stopped = Decimal("59.568") + Decimal("1.6") + Decimal("47.45")
    assert found.saving_usd(View.SCHEDULE) == pytest.approx(stopped * (1 - Decimal(60) / 168))


def test_instance_with_a_replica_cannot_be_stopped() -> None:
    primary = resource(
        "aws:rds/instance:Instance", "db", {"instanceClass": "db.t4g.large", "allocatedStorage": 200}
    )
    replica = resource(
        "aws:rds/instance:Instance",
        "replica",
        {"instanceClass": "db.t4g.large", "replicateSourceDb": UNKNOWN},
        needs={"replicateSourceDb": primary},
    )
    assert estimate(plan_of(primary, replica)).saving_usd(View.SCHEDULE) == 0
