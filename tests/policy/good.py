"""A small stack that keeps every assertion, as a plan would hold it; tests break one input at a time."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.plan import UNKNOWN, Plan, PlannedResource, Secret
from infra.plan.model import Options

STACK = "pulumi:pulumi:Stack"
ACCOUNT = "123456789012"
DIGEST = "registry.example.com/app@sha256:" + 64 * "a"


@dataclass(frozen=True)
class Ref:
    """An input that only the provider can tell, of another resource."""

    name: str


def urn(type_: str, name: str) -> str:
    return f"urn:pulumi:test::tradestack::{type_}::{name}"


def resource(type_: str, name: str, inputs: Mapping[str, Any], by_name: Mapping[str, str]) -> PlannedResource:
    """A planned resource; each `Ref` in `inputs` becomes an unknown value with its dependency."""
    found: dict[str, set[str]] = {}

    def plain(value: Any, key: str) -> Any:
        if isinstance(value, Ref):
            found.setdefault(key, set()).add(by_name[value.name])
            return UNKNOWN
        if isinstance(value, Secret):
            return Secret(plain(value.value, key))
        if isinstance(value, Mapping):
            return {name: plain(item, key) for name, item in value.items()}
        return [plain(item, key) for item in value] if isinstance(value, list) else value

    made = {key: plain(value, key) for key, value in inputs.items() if key != "@protect"}
    references = {key: tuple(sorted(urns)) for key, urns in found.items()}
    return PlannedResource(
        urn=urn(type_, name),
        type=type_,
        name=name,
        parent="",
        custom=not type_.startswith(("pulumi:pulumi", "tradestack:")),
        inputs=made,
        dependencies=tuple(sorted({item for urns in references.values() for item in urns})),
        property_dependencies=references,
        provider="",
        options=Options(protect=bool(inputs.get("@protect", False))),
    )


def plan(declared: Mapping[tuple[str, str], Mapping[str, Any]], stack: str = "production") -> Plan:
    """A plan of what is declared by type and name."""
    by_name = {f"{type_.rsplit(':', 1)[-1]}/{name}": urn(type_, name) for type_, name in declared}
    made = tuple(resource(type_, name, inputs, by_name) for (type_, name), inputs in declared.items())
    return Plan(
        stack=stack, project="tradestack", resources=made, outputs={}, settings_file=Path("missing.yaml")
    )


def document(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


KEY = Ref("Key/data")
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
SUBNETS = [Ref(f"Subnet/{zone}") for zone in ZONES]
SERVICES = ("s3", "ecr.api", "ecr.dkr", "sts", "logs", "ssm", "secretsmanager")
_OWNER = {
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
    "Action": "kms:*",
    "Resource": "*",
}
_TLS = {
    "Sid": "OnlyTls",
    "Effect": "Deny",
    "Principal": {"AWS": "*"},
    "Action": ["s3:*"],
    "Resource": "*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}
_POD_TRUST = document(
    {
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
    }
)


def _network() -> dict[tuple[str, str], dict[str, Any]]:
    vpc = Ref("Vpc/main")
    found: dict[tuple[str, str], dict[str, Any]] = {
        ("aws:ec2/vpc:Vpc", "main"): {"cidrBlock": "10.0.0.0/16"},
        ("aws:ec2/flowLog:FlowLog", "main"): {"vpcId": vpc, "trafficType": "ALL"},
        ("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", "main"): {"vpcId": vpc},
        ("aws:ec2/internetGateway:InternetGateway", "main"): {"vpcId": vpc},
        ("aws:ec2/routeTable:RouteTable", "private"): {"vpcId": vpc},
        ("aws:ec2/routeTable:RouteTable", "public"): {"vpcId": vpc},
        ("aws:ec2/route:Route", "public"): {
            "routeTableId": Ref("RouteTable/public"),
            "destinationCidrBlock": "0.0.0.0/0",
            "gatewayId": Ref("InternetGateway/main"),
        },
        ("aws:ec2/securityGroup:SecurityGroup", "edge"): {"vpcId": vpc, "description": "edge"},
        ("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "https"): {
            "securityGroupId": Ref("SecurityGroup/edge"),
            "cidrIpv4": "0.0.0.0/0",
            "fromPort": 443,
            "toPort": 443,
            "ipProtocol": "tcp",
        },
    }
    for zone in ZONES:
        found["aws:ec2/subnet:Subnet", zone] = {
            "vpcId": vpc,
            "availabilityZone": zone,
            "mapPublicIpOnLaunch": False,
        }
        found["aws:ec2/natGateway:NatGateway", zone] = {"subnetId": Ref(f"Subnet/{zone}")}
        found["aws:ec2/routeTableAssociation:RouteTableAssociation", zone] = {
            "subnetId": Ref(f"Subnet/{zone}"),
            "routeTableId": Ref("RouteTable/private"),
        }
    for service in SERVICES:
        found["aws:ec2/vpcEndpoint:VpcEndpoint", service] = {
            "vpcId": vpc,
            "serviceName": f"com.amazonaws.us-east-1.{service}",
        }
    return found


def _eks() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        ("aws:eks/cluster:Cluster", "main"): {
            "name": "tradestack",
            "version": "1.36",
            "vpcConfig": {
                "subnetIds": SUBNETS,
                "endpointPrivateAccess": True,
                "endpointPublicAccess": True,
                "publicAccessCidrs": ["203.0.113.0/24"],
            },
            "encryptionConfig": {"provider": {"keyArn": KEY}, "resources": ["secrets"]},
            "enabledClusterLogTypes": ["api", "audit", "authenticator", "controllerManager", "scheduler"],
            "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False},
        },
        ("aws:eks/nodeGroup:NodeGroup", "general"): {
            "clusterName": Ref("Cluster/main"),
            "subnetIds": SUBNETS,
            "launchTemplate": {"id": Ref("LaunchTemplate/general"), "version": Ref("LaunchTemplate/general")},
        },
        ("aws:ec2/launchTemplate:LaunchTemplate", "general"): {
            "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
            "blockDeviceMappings": [{"ebs": {"encrypted": "true", "kmsKeyId": KEY}}],
        },
        ("aws:eks/addon:Addon", "cni"): {
            "clusterName": "tradestack",
            "addonName": "vpc-cni",
            "addonVersion": "v1.20.4-eksbuild.1",
            "configurationValues": json.dumps({"enableNetworkPolicy": "true"}),
        },
        ("aws:iam/role:Role", "pod"): {"name": "tradestack-pod", "assumeRolePolicy": _POD_TRUST},
        ("aws:iam/rolePolicy:RolePolicy", "pod"): {
            "role": Ref("Role/pod"),
            "policy": document(
                {
                    "Effect": "Allow",
                    "Action": ["sqs:SendMessage"],
                    "Resource": [f"arn:aws:sqs:us-east-1:{ACCOUNT}:x"],
                }
            ),
        },
        ("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "pod"): {
            "role": Ref("Role/pod"),
            "policyArn": "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy",
        },
        ("aws:eks/podIdentityAssociation:PodIdentityAssociation", "gateway"): {
            "clusterName": "tradestack",
            "serviceAccount": "gateway",
            "roleArn": Ref("Role/pod"),
        },
    }


def _data() -> dict[tuple[str, str], dict[str, Any]]:
    server = "\n".join(
        (
            "default.replication.factor=3",
            "min.insync.replicas = 2",
            "unclean.leader.election.enable=false",
            "auto.create.topics.enable=false",
        )
    )
    found: dict[tuple[str, str], dict[str, Any]] = {
        ("aws:kms/key:Key", "data"): {
            "enableKeyRotation": True,
            "deletionWindowInDays": 30,
            "policy": document(_OWNER),
            "@protect": True,
        },
        ("aws:rds/parameterGroup:ParameterGroup", "main"): {
            "name": "tradestack-pg",
            "parameters": [{"name": "rds.force_ssl", "value": "1"}],
        },
        ("aws:rds/instance:Instance", "main"): {
            "identifier": "tradestack",
            "storageEncrypted": True,
            "kmsKeyId": KEY,
            "multiAz": True,
            "publiclyAccessible": False,
            "deletionProtection": True,
            "skipFinalSnapshot": False,
            "finalSnapshotIdentifier": "tradestack-final",
            "backupRetentionPeriod": 30,
            "iamDatabaseAuthenticationEnabled": True,
            "parameterGroupName": "tradestack-pg",
            "enabledCloudwatchLogsExports": ["postgresql", "upgrade"],
            "performanceInsightsEnabled": True,
            "performanceInsightsKmsKeyId": KEY,
            "monitoringInterval": 60,
            "monitoringRoleArn": Ref("Role/pod"),
            "autoMinorVersionUpgrade": True,
            "copyTagsToSnapshot": True,
            "manageMasterUserPassword": True,
            "username": "tradestack",
            "port": 5433,
            "caCertIdentifier": "rds-ca-rsa2048-g1",
            "@protect": True,
        },
        ("aws:elasticache/subnetGroup:SubnetGroup", "main"): {
            "name": "tradestack-cache",
            "subnetIds": SUBNETS,
        },
        ("aws:elasticache/replicationGroup:ReplicationGroup", "main"): {
            "atRestEncryptionEnabled": True,
            "kmsKeyId": KEY,
            "transitEncryptionEnabled": True,
            "transitEncryptionMode": "required",
            "authToken": Secret("${generated:cache-token}"),
            "automaticFailoverEnabled": True,
            "multiAzEnabled": True,
            "snapshotRetentionLimit": 7,
            "subnetGroupName": "tradestack-cache",
            "@protect": True,
        },
        ("aws:msk/configuration:Configuration", "main"): {"name": "tradestack", "serverProperties": server},
        ("aws:msk/cluster:Cluster", "main"): {
            "clusterName": "tradestack-kafka",
            "numberOfBrokerNodes": 3,
            "encryptionInfo": {
                "encryptionAtRestKmsKeyArn": KEY,
                "encryptionInTransit": {"clientBroker": "TLS", "inCluster": True},
            },
            "clientAuthentication": {"sasl": {"iam": True}, "unauthenticated": False},
            "brokerNodeGroupInfo": {"clientSubnets": SUBNETS},
            "configurationInfo": {"arn": Ref("Configuration/main"), "revision": Ref("Configuration/main")},
            "loggingInfo": {"brokerLogs": {"cloudwatchLogs": {"enabled": True}}},
            "openMonitoring": {
                "prometheus": {
                    "jmxExporter": {"enabledInBroker": True},
                    "nodeExporter": {"enabledInBroker": True},
                }
            },
            "@protect": True,
        },
    }
    for kind in ("db-instance", "db-parameter-group", "db-security-group"):
        found["aws:rds/eventSubscription:EventSubscription", kind] = {"sourceType": kind, "enabled": True}
    return found


def _bucket(name: str, *, locked: bool, logs: bool) -> dict[tuple[str, str], dict[str, Any]]:
    bucket = Ref(f"Bucket/{name}")
    algorithm: dict[str, Any] = (
        {"sseAlgorithm": "AES256"} if logs else {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": KEY}
    )
    found: dict[tuple[str, str], dict[str, Any]] = {
        ("aws:s3/bucket:Bucket", name): {
            "bucket": f"tradestack-{name}",
            "objectLockEnabled": locked,
            "@protect": True,
        },
        ("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", name): {
            "bucket": bucket,
            "blockPublicAcls": True,
            "blockPublicPolicy": True,
            "ignorePublicAcls": True,
            "restrictPublicBuckets": True,
        },
        ("aws:s3/bucketVersioning:BucketVersioning", name): {
            "bucket": bucket,
            "versioningConfiguration": {"status": "Enabled"},
        },
        ("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration", name): {
            "bucket": bucket,
            "rules": [{"status": "Enabled", "abortIncompleteMultipartUpload": {"daysAfterInitiation": 7}}],
        },
        (
            "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
            name,
        ): {"bucket": bucket, "rules": [{"applyServerSideEncryptionByDefault": algorithm}]},
        ("aws:s3/bucketPolicy:BucketPolicy", name): {"bucket": bucket, "policy": document(_TLS)},
        ("aws:s3/bucketOwnershipControls:BucketOwnershipControls", name): {
            "bucket": bucket,
            "rule": {"objectOwnership": "BucketOwnerEnforced"},
        },
    }
    if locked:
        found["aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration", name] = {"bucket": bucket}
    if not logs:
        found["aws:s3/bucketLogging:BucketLogging", name] = {
            "bucket": bucket,
            "targetBucket": Ref("Bucket/logs"),
        }
    return found


def _services() -> dict[tuple[str, str], dict[str, Any]]:
    own = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    publish = {
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": "sns:Publish",
        "Resource": "*",
        "Condition": own,
    }
    return {
        ("aws:secretsmanager/secret:Secret", "app"): {"name": "tradestack/app"},
        ("aws:secretsmanager/secretRotation:SecretRotation", "app"): {"secretId": Ref("Secret/app")},
        ("aws:sns/topic:Topic", "trade"): {"name": "trade", "kmsMasterKeyId": KEY},
        ("aws:sns/topicPolicy:TopicPolicy", "trade"): {
            "arn": Ref("Topic/trade"),
            "policy": document(publish),
        },
        ("aws:sqs/queue:Queue", "report"): {"kmsMasterKeyId": KEY, "redrivePolicy": Ref("Queue/report-dead")},
        ("aws:sqs/queue:Queue", "report-dead"): {"kmsMasterKeyId": KEY},
        ("aws:lambda/function:Function", "report"): {
            "runtime": "python3.13",
            "deadLetterConfig": {"targetArn": Ref("Queue/report-dead")},
            "tracingConfig": {"mode": "Active"},
            "reservedConcurrentExecutions": 5,
            "vpcConfig": {"subnetIds": SUBNETS},
            "environment": {"variables": {"APP_DATABASE_HOST": Ref("Instance/main")}},
        },
        ("aws:cloudtrail/trail:Trail", "main"): {
            "isMultiRegionTrail": True,
            "enableLogFileValidation": True,
            "kmsKeyId": KEY,
            "cloudWatchLogsGroupArn": "arn:aws:logs:us-east-1:123456789012:log-group:trail:*",
            "cloudWatchLogsRoleArn": Ref("Role/pod"),
        },
        ("aws:lb/loadBalancer:LoadBalancer", "main"): {
            "loadBalancerType": "application",
            "accessLogs": {"enabled": True, "bucket": Ref("Bucket/logs")},
            "enableDeletionProtection": True,
            "dropInvalidHeaderFields": True,
        },
        ("aws:lb/listener:Listener", "https"): {
            "protocol": "HTTPS",
            "sslPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
            "defaultActions": [{"type": "forward"}],
        },
        ("aws:lb/listener:Listener", "http"): {
            "protocol": "HTTP",
            "defaultActions": [{"type": "redirect", "redirect": {"protocol": "HTTPS"}}],
        },
        ("aws:ecr/repository:Repository", "app"): {
            "name": "tradestack/app",
            "imageTagMutability": "IMMUTABLE",
            "imageScanningConfiguration": {"scanOnPush": True},
        },
        ("aws:ecr/lifecyclePolicy:LifecyclePolicy", "app"): {"repository": Ref("Repository/app")},
    }


def _kubernetes() -> dict[tuple[str, str], dict[str, Any]]:
    space = "trading-system"
    labels = {"app.kubernetes.io/name": "gateway"}
    container = {
        "name": "gateway",
        "image": DIGEST,
        "env": [{"name": "APP_LOG_LEVEL", "value": "INFO"}],
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        "securityContext": {"readOnlyRootFilesystem": True},
        "startupProbe": {"httpGet": {"path": "/health/live", "port": "http"}},
        "livenessProbe": {"httpGet": {"path": "/health/live", "port": "http"}},
        "readinessProbe": {"httpGet": {"path": "/health/ready", "port": "http"}},
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
    }
    spec = {
        "serviceAccountName": "gateway",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsUser": 10001},
        "topologySpreadConstraints": [
            {"topologyKey": "topology.kubernetes.io/zone"},
            {"topologyKey": "kubernetes.io/hostname"},
        ],
        "containers": [container],
    }
    template = {"metadata": {"labels": labels}, "spec": spec}
    meta = {"name": "gateway", "namespace": space}
    whole: dict[str, Any] = {"podSelector": {}}
    job = copy.deepcopy(spec)
    job["serviceAccountName"] = "migrate"
    return {
        ("kubernetes:core/v1:Namespace", space): {"kind": "Namespace", "metadata": {"name": space}},
        ("kubernetes:core/v1:ResourceQuota", "quota"): {"metadata": {"name": "quota", "namespace": space}},
        ("kubernetes:core/v1:LimitRange", "limits"): {"metadata": {"name": "limits", "namespace": space}},
        ("kubernetes:networking.k8s.io/v1:NetworkPolicy", "deny"): {
            "metadata": {"name": "default-deny", "namespace": space},
            "spec": {**whole, "policyTypes": ["Ingress", "Egress"]},
        },
        ("kubernetes:networking.k8s.io/v1:NetworkPolicy", "dns"): {
            "metadata": {"name": "allow-dns", "namespace": space},
            "spec": {
                **whole,
                "policyTypes": ["Egress"],
                "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
            },
        },
        ("kubernetes:apps/v1:Deployment", "gateway"): {
            "metadata": dict(meta),
            "spec": {"template": template},
        },
        ("kubernetes:policy/v1:PodDisruptionBudget", "gateway"): {
            "metadata": dict(meta),
            "spec": {"selector": {"matchLabels": labels}, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
        },
        ("kubernetes:autoscaling/v2:HorizontalPodAutoscaler", "gateway"): {
            "metadata": dict(meta),
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "gateway"}},
        },
        ("kubernetes:batch/v1:Job", "migrate"): {
            "metadata": {"name": "migrate", "namespace": space},
            "spec": {"template": {"metadata": {"labels": {}}, "spec": job}},
        },
    }


def declared() -> dict[tuple[str, str], dict[str, Any]]:
    """The whole good stack; a fresh copy, free to be broken."""
    found: dict[tuple[str, str], dict[str, Any]] = {(STACK, "tradestack-test"): {}}
    found |= _network() | _eks() | _data() | _services() | _kubernetes()
    found |= _bucket("reports", locked=False, logs=False)
    found |= _bucket("backups", locked=True, logs=False)
    found |= _bucket("logs", locked=False, logs=True)
    return copy.deepcopy(found)
