"""What the documents behind this project say such a platform costs, and the same bill at our prices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from infra.cost import Estimate, estimate
from infra.plan import run
from infra.plan.model import Plan, PlannedResource
from tests.cost.plans import node_group, plan_of, resource

TOLERANCE = Decimal("0.15")
"""Share by which an item may differ without an explanation."""

NO_TRAFFIC = {
    "alb_lcu": 0,
    "nat_gb": 0,
    "inter_az_gb": 0,
    "egress_gb": 0,
    "database_fill": 0,
    "database_change": 0,
}


@dataclass(frozen=True)
class Item:
    """One row of a published bill."""

    bill: str
    """`EKS`, `GKE` or `Kubernetes`."""
    name: str
    published: Decimal
    """Dollars a month in the document."""
    ours: Decimal
    """The same at our prices, exact."""

    @property
    def key(self) -> str:
        """Bill and name."""
        return f"{self.bill}: {self.name}"

    @property
    def difference(self) -> Decimal:
        """Share of the published amount that ours is higher; negative for lower."""
        return self.ours / self.published - 1

    @property
    def needs_explanation(self) -> bool:
        """Whether it differs by more than the tolerance."""
        return abs(self.difference) > TOLERANCE


@dataclass(frozen=True)
class _Row:
    name: str
    published: int
    prices: tuple[str, ...]
    """Beginnings of the price keys that the row covers."""
    resources: tuple[PlannedResource, ...]


def _bill(bill: str, rows: Sequence[_Row], total: int, **usage: float) -> list[Item]:
    items = []
    for row in rows:
        found = estimate(plan_of(*row.resources), usage={**NO_TRAFFIC, **usage})
        ours = sum((x.monthly_usd for x in found.lines if x.price.startswith(row.prices)), Decimal(0))
        items.append(Item(bill, row.name, Decimal(row.published), ours))
    ours = sum((item.ours for item in items), Decimal(0))
    return [*items, Item(bill, "total", Decimal(total), ours)]


def _volumes(count: int, gib: int) -> tuple[PlannedResource, ...]:
    volume = {"size": gib, "type": "gp3"}
    return tuple(resource("aws:ebs/volume:Volume", f"volume-{number}", volume) for number in range(count))


_EKS = resource("aws:eks/cluster:Cluster", "cluster", {"version": "1.35"})
_ALB = resource(
    "aws:lb/loadBalancer:LoadBalancer", "lb", {"loadBalancerType": "application", "internal": True}
)
_NLB = resource("aws:lb/loadBalancer:LoadBalancer", "lb", {"loadBalancerType": "network", "internal": True})


def eks_bill() -> list[Item]:
    """The monthly cost breakdown for EKS: $304."""
    database = {"instanceClass": "db.t3.medium", "allocatedStorage": 100}
    cache_group = {"engine": "redis", "nodeType": "cache.t3.micro", "numCacheClusters": 1}
    rows = [
        _Row("control plane", 73, ("eks/",), (_EKS,)),
        _Row("3 x t3.medium", 90, ("ec2/",), (node_group(nodes=3, kind="t3.medium"),)),
        _Row("db.t3.medium", 60, ("rds/db.",), (resource("aws:rds/instance:Instance", "db", database),)),
        _Row(
            "cache.t3.micro",
            15,
            ("elasticache-",),
            (resource("aws:elasticache/replicationGroup:ReplicationGroup", "cache", cache_group),),
        ),
        _Row("application load balancer", 16, ("elb/",), (_ALB,)),
        _Row("5 volumes of 100 GB", 50, ("ebs/",), _volumes(5, 100)),
    ]
    return _bill("EKS", rows, 304)


def gke_bill() -> list[Item]:
    """The estimate for GKE, with AWS's counterparts: about $400."""
    vpc = resource("aws:ec2/vpc:Vpc", "vpc")
    rows = [
        _Row("control plane", 72, ("eks/",), (_EKS,)),
        _Row("3 nodes of 4 vCPU and 16 GB", 291, ("ec2/",), (node_group(nodes=3, kind="t3.xlarge"),)),
        _Row("load balancer", 18, ("elb/network",), (_NLB,)),
        _Row("80 GB of disks", 8, ("ebs/",), _volumes(1, 80)),
        _Row("100 GB of egress", 12, ("transfer/internet",), (vpc,)),
    ]
    return _bill("GKE", rows, 400, egress_gb=100, nlb_lcu=0)


def kubernetes_bill() -> list[Item]:
    """The cost lines of the third document; its pods' CPU requests decide the nodes.

    At rest 2 frontends, 2 backends, 2 scrapers and 6 Redis ask for half a CPU each: 6; at the peak 10, 10, 5
    and 6: 15.5. A node of 2 CPUs takes 1.6 beside what runs on every node. Six Redis volumes have 10 GiB;
    thirty daily backups of 10 GiB are kept.
    """
    small, peak = (
        node_group(nodes=int((cpus / Decimal("1.6")).to_integral_value("ROUND_CEILING")), kind="m7i.large")
        for cpus in (Decimal(6), Decimal("15.5"))
    )
    database = {"instanceClass": "db.t3.medium", "allocatedStorage": 10}
    rule = {"ruleName": "daily", "lifecycle": {"deleteAfter": 30}}
    backups = (
        resource("aws:rds/instance:Instance", "db", database),
        resource("aws:backup/plan:Plan", "backup", {"rules": [rule]}),
    )
    compute = ("eks/", "ec2/")
    # Every backup is counted whole, as a dump to a bucket would be.
    whole = {"database_fill": 1, "database_change": 1}
    rows = [
        _Row("compute at rest", 500, compute, (_EKS, small)),
        _Row("compute at the peak", 1200, compute, (_EKS, peak)),
        _Row("Redis volumes", 50, ("ebs/",), _volumes(6, 10)),
        _Row("backup storage", 30, ("backup/",), backups),
    ]
    return _bill("Kubernetes", rows, 0, **whole)[:-1]


def items() -> list[Item]:
    """Every item and total of the three bills."""
    return [*eks_bill(), *gke_bill(), *kubernetes_bill()]


RANGES: Mapping[str, tuple[int, int]] = {"dev": (200, 300), "staging": (300, 400), "prod": (700, 2000)}
"""Totals that the third document gives by environment."""

COUNTED: Mapping[str, tuple[str, ...]] = {
    "EKS control plane": ("eks/",),
    "nodes and their volumes": ("ec2/", "ebs/"),
    "PostgreSQL": ("rds/",),
    "cache": ("elasticache-",),
    "load balancers": ("elb/",),
    "data to the internet": ("transfer/internet",),
}
"""What the documents count too, by the price keys."""

ADDED: Mapping[str, tuple[str, ...]] = {
    "Kafka (MSK)": ("msk/",),
    "interface endpoints": ("endpoint/",),
    "NAT and public addresses": ("nat/", "ipv4/"),
    "data between zones and regions": ("transfer/between",),
    "logs, metrics, alarms, traces, audit": ("logs/", "cloudwatch/", "cloudtrail/", "xray/"),
    "Fargate and Lambda": ("fargate/", "lambda/"),
    "streams, queues, topics, mail, schedules": ("kinesis/", "firehose/", "sqs/", "sns/", "ses/", "events/"),
    "web firewall and DNS": ("waf/", "route53/"),
    "keys and secrets": ("kms/", "secretsmanager/"),
    "object storage and images": ("s3/", "ecr/"),
    "backups": ("backup/",),
    "builds and pipelines": ("codebuild/", "codepipeline/"),
}
"""What our stacks have beyond that, by the price keys."""


@cache
def plan(name: str) -> Plan:
    """Plan of one of the repository's stacks."""
    return run(name)


@cache
def stack(name: str) -> Estimate:
    """Estimate of one of the repository's stacks."""
    return estimate(plan(name))


def by_group(found: Estimate, groups: Mapping[str, tuple[str, ...]]) -> dict[str, Decimal]:
    """Dollars a month by group of price keys."""
    return {
        group: sum((x.monthly_usd for x in found.lines if x.price.startswith(keys)), Decimal(0))
        for group, keys in groups.items()
    }
