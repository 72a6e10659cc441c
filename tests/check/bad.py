"""Faults that every checker must find; should one of them pass, its checker has gone blind."""

from typing import Any

from tests.policy.good import Ref

AWS: dict[tuple[str, str], dict[str, Any]] = {
    ("aws:kms/key:Key", "data"): {"enableKeyRotation": False},
    ("aws:s3/bucket:Bucket", "open"): {"bucket": "tradestack-open"},
    ("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "open"): {
        "bucket": Ref("Bucket/open"),
        "blockPublicAcls": False,
        "blockPublicPolicy": True,
        "ignorePublicAcls": True,
        "restrictPublicBuckets": True,
    },
    ("aws:s3/bucket:Bucket", "closed"): {"bucket": "tradestack-closed"},
    ("aws:s3/bucketVersioning:BucketVersioning", "closed"): {
        "bucket": Ref("Bucket/closed"),
        "versioningConfiguration": {"status": "Enabled"},
    },
    ("aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration", "closed"): {
        "bucket": Ref("Bucket/closed"),
        "rules": [
            {
                "applyServerSideEncryptionByDefault": {
                    "sseAlgorithm": "aws:kms",
                    "kmsMasterKeyId": Ref("Key/data"),
                }
            }
        ],
    },
    ("aws:rds/instance:Instance", "main"): {
        "identifier": "tradestack",
        "engine": "postgres",
        "storageEncrypted": False,
        "publiclyAccessible": True,
        "multiAz": False,
    },
    ("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "ssh"): {
        "cidrIpv4": "0.0.0.0/0",
        "fromPort": 22,
        "toPort": 22,
        "ipProtocol": "tcp",
        "securityGroupId": "sg-0123456789abcdef0",
    },
    ("aws:ec2/launchTemplate:LaunchTemplate", "nodes"): {"metadataOptions": {"httpTokens": "optional"}},
    ("aws:eks/cluster:Cluster", "main"): {
        "vpcConfig": {
            "endpointPublicAccess": True,
            "publicAccessCidrs": ["0.0.0.0/0"],
            "subnetIds": ["a", "b"],
        },
    },
    ("aws:iam/rolePolicy:RolePolicy", "wide"): {
        "role": "wide",
        "policy": '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
    },
    ("aws:lambda/function:Function", "plain"): {
        "name": "plain",
        "runtime": "python3.13",
        "environment": {"variables": {"accessKey": "AKIA" + "IOSFODNN7EXAMPLE"}},
    },
    ("aws:elasticache/replicationGroup:ReplicationGroup", "plain"): {"transitEncryptionEnabled": False},
    ("aws:msk/cluster:Cluster", "plain"): {
        "encryptionInfo": {"encryptionInTransit": {"clientBroker": "PLAINTEXT"}}
    },
    ("aws:lb/listener:Listener", "http"): {
        "protocol": "HTTP",
        "loadBalancerArn": "arn:aws:elasticloadbalancing:x",
        "defaultActions": [{"type": "forward", "targetGroupArn": "arn:aws:elasticloadbalancing:y"}],
    },
    ("aws:sqs/queue:Queue", "plain"): {"name": "plain"},
    ("aws:cloudtrail/trail:Trail", "main"): {"name": "main", "isMultiRegionTrail": False},
    ("aws:ecr/repository:Repository", "app"): {"name": "app", "imageTagMutability": "MUTABLE"},
}
"""AWS resources, each with a fault."""

AWS_FINDINGS = {
    ("CKV_AWS_7", "data"),
    ("CKV_AWS_53", "open"),
    ("CKV_AWS_145", "open"),
    ("CKV_AWS_21", "open"),
    ("CKV_AWS_16", "main"),
    ("CKV_AWS_17", "main"),
    ("CKV_AWS_157", "main"),
    ("CKV_AWS_24", "ssh"),
    ("CKV_AWS_79", "nodes"),
    ("CKV_AWS_38", "main"),
    ("CKV_AWS_58", "main"),
    ("CKV_AWS_355", "wide"),
    ("CKV_AWS_45", "plain"),
    ("CKV_AWS_50", "plain"),
    ("CKV_AWS_30", "plain"),
    ("CKV_AWS_81", "plain"),
    ("CKV_AWS_2", "http"),
    ("CKV_AWS_27", "plain"),
    ("CKV_AWS_67", "main"),
    ("CKV_AWS_51", "app"),
}
"""What checkov must find in them, by check and name."""

NOT_AWS_FINDINGS = {("CKV_AWS_145", "closed"), ("CKV_AWS_21", "closed")}
"""What it must not find: a reference leads from the bucket's settings to the bucket."""

_META = {"name": "web", "namespace": "trading-system", "labels": {"app.kubernetes.io/part-of": "tradestack"}}

KUBERNETES: dict[tuple[str, str], dict[str, Any]] = {
    ("kubernetes:apps/v1:Deployment", "web"): {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _META,
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "hostNetwork": True,
                    "containers": [
                        {
                            "name": "web",
                            "image": "nginx:latest",
                            "imagePullPoliciy": "Always",
                            "securityContext": {"privileged": True},
                        }
                    ],
                },
            },
        },
    },
    ("kubernetes:core/v1:Service", "web"): {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _META,
        "spec": {"selector": {"app": "nobody"}, "ports": [{"port": 80}]},
    },
}
"""Kubernetes objects with faults: privileges, a misspelled field, a selector of nothing."""

MALFORMED: dict[tuple[str, str], dict[str, Any]] = {
    **KUBERNETES,
    ("kubernetes:core/v1:Service", "web"): {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _META,
        "spec": {"selector": {"app": "web"}, "ports": [{"port": "eighty"}]},
    },
    ("kubernetes:example.com/v1:Strange", "web"): {
        "apiVersion": "example.com/v1",
        "kind": "Strange",
        "metadata": _META,
    },
}
"""Kubernetes objects that no API server takes: a misspelled field, a port that is a word, a strange kind."""
