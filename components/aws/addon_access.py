"""What the cluster's add-ons may do in AWS, for their Pod Identity roles."""

from collections.abc import Sequence

from pulumi import Input

from components.aws.identity import Statement
from components.aws.scope import Scope


def load_balancer_statements(target_group_arns: Sequence[Input[str]]) -> list[Statement]:
    """AWS Load Balancer Controller for TargetGroupBindings: it registers targets in these groups only."""
    # Nothing that describes knows resources.
    describe = (
        "ec2:DescribeAvailabilityZones",
        "ec2:DescribeInstances",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
        "elasticloadbalancing:DescribeTags",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    )
    register = ("elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:RegisterTargets")
    return [Statement(describe, ("*",)), Statement(register, target_group_arns)]


def cluster_autoscaler_statements(scope: Scope, cluster: str) -> list[Statement]:
    """Cluster Autoscaler: it resizes the groups that EKS has marked as those of this cluster."""
    # Nothing that describes knows resources.
    describe = (
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLaunchConfigurations",
        "autoscaling:DescribeScalingActivities",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:GetInstanceTypesFromInstanceRequirements",
    )
    resize = ("autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup")
    own = {"StringEquals": {f"aws:ResourceTag/k8s.io/cluster-autoscaler/{cluster}": "owned"}}
    # EKS names the group behind a node group `eks-…`.
    groups = scope.arn("autoscaling", "autoScalingGroup:*:autoScalingGroupName/eks-*")
    return [
        Statement(describe, ("*",)),
        Statement(("eks:DescribeNodegroup",), (scope.arn("eks", f"nodegroup/{cluster}/*"),)),
        Statement(resize, (groups,), own),
    ]


def external_secrets_statements(
    scope: Scope, secret_arns: Sequence[Input[str]], key_arns: Sequence[Input[str]]
) -> list[Statement]:
    """External Secrets Operator: it reads these secrets, and uses their keys through Secrets Manager only."""
    via = {"kms:ViaService": f"secretsmanager.{scope.region}.amazonaws.com"}
    return [
        Statement(("secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"), secret_arns),
        Statement(("kms:Decrypt",), key_arns, {"StringEquals": via}),
    ]


def keda_statements(
    cluster_arn: Input[str], backlogs: Sequence[tuple[Input[str], Input[str]]]
) -> list[Statement]:
    """KEDA: it reads how far consumer groups are behind.

    `backlogs` are the ARNs of topics with a group each, at least one.
    """
    topics, groups = zip(*backlogs, strict=True)
    return [
        Statement(("kafka-cluster:Connect", "kafka-cluster:DescribeCluster"), [cluster_arn]),
        Statement(("kafka-cluster:DescribeTopic",), topics),
        Statement(("kafka-cluster:DescribeGroup",), groups),
    ]


def external_dns_statements(scope: Scope, zone_id: str) -> list[Statement]:
    """ExternalDNS: it writes records in one zone."""
    zone = _zone(scope, zone_id)
    return [
        Statement(("route53:ChangeResourceRecordSets",), (zone,)),
        Statement(("route53:ListResourceRecordSets", "route53:ListTagsForResources"), (zone,)),
        # Zones are listed all or none.
        Statement(("route53:ListHostedZones",), ("*",)),
    ]


def cert_manager_statements(scope: Scope, zone_id: str) -> list[Statement]:
    """cert-manager: it writes the TXT records by which it proves a domain, in one zone."""
    proof = {
        "ForAllValues:StringEquals": {"route53:ChangeResourceRecordSetsRecordTypes": ["TXT"]},
        "ForAllValues:StringLike": {
            "route53:ChangeResourceRecordSetsNormalizedRecordNames": ["_acme-challenge.*"]
        },
    }
    zone = _zone(scope, zone_id)
    return [
        Statement(("route53:GetChange",), (f"arn:{scope.partition}:route53:::change/*",)),
        Statement(("route53:ChangeResourceRecordSets",), (zone,), proof),
        Statement(("route53:ListResourceRecordSets",), (zone,)),
    ]


def _zone(scope: Scope, zone_id: str) -> str:
    return f"arn:{scope.partition}:route53:::hostedzone/{zone_id}"
