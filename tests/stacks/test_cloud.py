"""Every cloud stack whole: the same resources under plan and mocks, whole and in order."""

import asyncio
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks, set_mocks

import stacks
from app.roles import cluster_roles
from infra.plan import Plan, run, stackfile
from infra.plan.model import PlannedResource
from infra.settings import parse

# Rows B1 to B18 of the requirements, each by the component that holds its resources.
COMPONENTS = {
    *("Network", "Cluster", "Database", "Cache", "Streaming", "Storage", "Messaging", "Analytics"),
    *(
        "Functions",
        "Containers",
        "Edge",
        "Firewall",
        "Observability",
        "Audit",
        "Registry",
        "Budget",
        "Backup",
    ),
    *("Alerts", "Key", "Role", "PodRole"),
}


_LB_LOGS = ("accessLogs", "connectionLogs")


def _one(plan: Plan, type_: str, name: str) -> PlannedResource:
    (found,) = [item for item in plan.resources if (item.type, item.name) == (type_, name)]
    return found


def _needed(plan: Plan, urn: str) -> set[str]:
    """What is made before a resource and deleted after it."""
    found: set[str] = set()
    waiting = [urn]
    while waiting:
        more = set(plan.by_urn[waiting.pop()].dependencies) - found
        found |= more
        waiting += more
    return found


def test_urns_are_those_of_the_snapshot(plan: Plan) -> None:
    """A changed URN replaces the resource, unless it has an alias; then rewrite the snapshots.

    TRADESTACK_WRITE_SNAPSHOTS=1 does that.
    """
    snapshot = Path(__file__).parent / f"urns.{plan.stack}.txt"
    urns = "".join(f"{urn}\n" for urn in sorted(plan.by_urn))
    if os.environ.get("TRADESTACK_WRITE_SNAPSHOTS"):
        snapshot.write_text(urns)
    assert urns == snapshot.read_text()


def test_a_stack_has_every_component_and_more_than_300_resources(plan: Plan) -> None:
    made = {
        item.type.rsplit(":", 1)[-1] for item in plan.resources if item.type.startswith("tradestack:aws:")
    }
    assert made >= COMPONENTS
    assert len(plan.resources) > 300


def test_each_resource_comes_after_what_it_depends_on(plan: Plan) -> None:
    seen: set[str] = set()
    for resource in plan.resources:
        assert {resource.parent, resource.provider, *resource.dependencies} - {""} <= seen
        seen.add(resource.urn)


def test_logs_go_where_the_bucket_lets_their_writers(plan: Plan) -> None:
    policy = json.loads(_one(plan, "aws:s3/bucketPolicy:BucketPolicy", "logs").inputs["policy"])
    allowed = [
        item["Resource"][0].split(":::", 1)[1].split("/", 1)[1]
        for item in policy["Statement"]
        if item["Action"] == ["s3:PutObject"]
    ]
    trail = _one(plan, "aws:cloudtrail/trail:Trail", "audit")
    balancers = [item for item in plan.resources if item.type == "aws:lb/loadBalancer:LoadBalancer"]
    found = [item.inputs[kind] for item in balancers for kind in _LB_LOGS if kind in item.inputs]
    assert len(found) == 3
    account = stackfile.configuration(plan.settings_file)["tradestack:account"]
    for prefix in (trail.inputs["s3KeyPrefix"], *(logs["prefix"] for logs in found)):
        written = f"{prefix}/AWSLogs/{account}/a-file"
        assert any(fnmatchcase(written, pattern) for pattern in allowed), written


def test_the_way_out_is_there_as_long_as_the_cluster_and_the_load_balancers(plan: Plan) -> None:
    for type_, name, route in (
        ("aws:eks/cluster:Cluster", "cluster", "network-private-a"),
        ("aws:lb/loadBalancer:LoadBalancer", "edge", "network-public"),
    ):
        needed = _needed(plan, _one(plan, type_, name).urn)
        assert _one(plan, "aws:ec2/route:Route", route).urn in needed
        assert (
            _one(plan, "aws:ec2/routeTableAssociation:RouteTableAssociation", f"{route[:15]}-a").urn in needed
        )


def test_what_writes_logs_of_the_cluster_goes_before_them(plan: Plan) -> None:
    writer = _one(plan, "aws:eks/addon:Addon", "cluster-amazon-cloudwatch-observability")
    needed = _needed(plan, writer.urn)
    for kind in ("application", "dataplane", "host", "performance"):
        assert _one(plan, "aws:cloudwatch/logGroup:LogGroup", f"cluster-{kind}").urn in needed


def test_who_changes_the_stack_may_enter_the_cluster(plan: Plan) -> None:
    delivery = stackfile.configuration(plan.settings_file).get("tradestack:delivery")
    admitted = {
        item.inputs["principalArn"]
        for item in plan.resources
        if item.type == "aws:eks/accessEntry:AccessEntry"
    }
    assert delivery is None or json.loads(delivery)["deployerRole"] in admitted


def test_the_database_is_awake_when_it_is_backed_up(plan: Plan) -> None:
    (rule,) = _one(plan, "aws:backup/plan:Plan", "backup").inputs["rules"]
    rests = "tradestack:schedule" in stackfile.configuration(plan.settings_file)
    wanted = ("cron(30 13 ? * MON-FRI *)", "America/New_York") if rests else ("cron(0 1 * * ? *)", "Etc/UTC")
    assert (rule["schedule"], rule["scheduleExpressionTimezone"]) == wanted


def test_every_resource_names_one_of_the_stacks_own_providers(plan: Plan) -> None:
    providers = Counter(item.type for item in plan.resources if item.type.startswith("pulumi:providers:"))
    assert providers == {f"pulumi:providers:{name}": 1 for name in ("aws", "kubernetes", "random")}
    for resource in plan.resources:
        if resource.custom and not resource.type.startswith("pulumi:"):
            package = resource.type.split(":", 1)[0]
            assert plan.by_urn[resource.provider].type == f"pulumi:providers:{package}"


def test_the_provider_refuses_every_other_account(plan: Plan) -> None:
    provider = next(item for item in plan.resources if item.type == "pulumi:providers:aws")
    account = stackfile.configuration(plan.settings_file)["tradestack:account"]
    assert account in str(provider.inputs["allowedAccountIds"])


def test_a_new_endpoint_of_the_cluster_replaces_nothing_in_it(plan: Plan) -> None:
    provider = next(item for item in plan.resources if item.type == "pulumi:providers:kubernetes")
    assert provider.inputs["clusterIdentifier"] == f"tradestack-{plan.stack}-cluster"


def test_kubernetes_objects_have_explicit_names(plan: Plan) -> None:
    for resource in plan.resources:
        if resource.custom and resource.type.startswith("kubernetes:"):
            name = resource.inputs.get("name") or resource.inputs["metadata"]["name"]
            assert isinstance(name, str), resource.urn
            assert name


def test_workloads_are_those_of_the_local_stack_pointed_at_managed_services(plan: Plan) -> None:
    deployments = {item.name: item for item in plan.resources if item.type.endswith(":Deployment")}
    assert set(deployments) == {
        name for name, role in cluster_roles(cloud=True).items() if role.port is not None
    }
    assert not [item for item in plan.resources if item.type.endswith(":StatefulSet")]
    spec = deployments["market-data"].inputs["spec"]["template"]["spec"]
    container = spec["containers"][0]
    variables = {item["name"]: item["value"] for item in container["env"]}
    assert variables["APP_BUS_SECURITY"] == "msk-iam"
    assert {"APP_BUS_URL", "APP_CACHE_URL", "APP_DATABASE_URL"} <= set(variables)
    digest = stackfile.configuration(plan.settings_file)["tradestack:image"].split('"')[3]
    assert container["image"].endswith(f".amazonaws.com/tradestack-{plan.stack}/app@{digest}")


def test_the_matching_engine_has_nodes_of_its_own_where_the_stack_has_them(plan: Plan) -> None:
    pods = {
        item.name: item.inputs["spec"]["template"]["spec"]
        for item in plan.resources
        if item.type.endswith(":Deployment")
    }
    groups = {item.name: item.inputs for item in plan.resources if item.type == "aws:eks/nodeGroup:NodeGroup"}
    group = groups.get("cluster-performance")
    chosen = {name: pod["nodeSelector"] for name, pod in pods.items() if "nodeSelector" in pod}
    if group is None:
        assert plan.stack == "dev"
        assert chosen == {}
        return
    assert chosen == {"matching-engine": group["labels"]}
    taint, toleration = group["taints"][0], pods["matching-engine"]["tolerations"][0]
    assert (taint["key"], taint["value"]) == (toleration["key"], toleration["value"])
    assert group["scalingConfig"]["minSize"] == 2
    resources = pods["matching-engine"]["containers"][0]["resources"]
    assert resources["requests"] == {**resources["limits"], "ephemeral-storage": "64Mi"}
    assert resources["requests"]["cpu"].isdigit()


def test_a_role_gets_the_secrets_it_lists_from_secrets_manager(plan: Plan) -> None:
    remote = next(item for item in plan.resources if item.type.endswith(":ExternalSecret"))
    given = {item["secretKey"] for item in remote.inputs["spec"]["data"]}
    assert given == {key for role in cluster_roles(cloud=True).values() for key in role.secrets}
    kinds = {
        item.name: item.inputs["tags"]["tradestack:rotates"]
        for item in plan.resources
        if item.type == "aws:secretsmanager/secret:Secret" and item.name.startswith("app-")
    }
    assert kinds == {
        "app-internal-token": "rolling",
        "app-auth-signing-key": "rolling",
        "app-auth-encryption-key": "growing",
    }


def test_outputs_tell_where_everything_is(plan: Plan) -> None:
    assert set(plan.outputs) >= {
        "urls",
        "endpoints",
        "kubeconfig",
        "dashboard",
        "repository",
        "buckets",
        "image",
    }
    domain = stackfile.configuration(plan.settings_file)["tradestack:domain"]
    assert plan.outputs["urls"] == {"web": f"https://{domain}", "api": f"https://{domain}/api"}


COMPUTED = (
    *(
        "address",
        "arnSuffix",
        "bootstrapBrokersSaslIam",
        "configurationEndpointAddress",
        "dnsName",
        "endpoint",
    ),
    *("keyId", "primaryEndpointAddress", "url", "zoneId"),
)
"""Outputs that AWS fills in and other resources' names are made of."""


class Recorder(Mocks):
    """Answers with the inputs and an id; refuses every invoke."""

    def __init__(self) -> None:
        self.registered: list[MockResourceArgs] = []

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.registered.append(args)
        arn = f"arn:aws:service:us-east-1:123456789012:cluster/{args.name}/uuid"
        computed = dict.fromkeys(COMPUTED, f"{args.name}.example.com")
        return f"{args.name}-id", {**computed, "arn": arn, "result": "generated", **args.inputs}

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program calls {args.token}")


def _mocked(stack: str) -> list[MockResourceArgs]:
    configuration = stackfile.configuration(stackfile.locate(stack))
    mine = {key.split(":", 1)[1]: value for key, value in configuration.items() if "tradestack:" in key}
    asyncio.set_event_loop(asyncio.new_event_loop())
    recorder = Recorder()
    set_mocks(recorder, project="tradestack", stack=stack, preview=False)
    pulumi.runtime.test(lambda: stacks.build(parse(mine, file=stack)).export())()
    return recorder.registered


def test_mocks_see_the_same_resources(plan: Plan) -> None:
    with ThreadPoolExecutor(max_workers=1) as executor:
        registered = executor.submit(_mocked, plan.stack).result()
    mocked = Counter((item.typ, item.name) for item in registered if item.typ != "pulumi:pulumi:Stack")
    planned = Counter((item.type, item.name) for item in plan.resources if item.parent)
    assert mocked == planned


@pytest.mark.parametrize(
    ("key", "value", "kind", "count"),
    [
        (
            "network",
            '{"zones": ["us-east-1a", "us-east-1b", "us-east-1c"], "natPerZone": true}',
            "NatGateway",
            3,
        ),
        ("database", '{"instanceClass": "db.t4g.medium", "readReplicas": 2}', "rds/instance:Instance", 3),
        ("unusualCost", "0", "costexplorer/anomalyMonitor:AnomalyMonitor", 0),
    ],
)
def test_a_setting_changes_what_it_says(key: str, value: str, kind: str, count: int) -> None:
    plan = run("staging", overrides={f"tradestack:{key}": value})
    assert sum(item.type.endswith(kind) for item in plan.resources) == count


def test_the_first_phase_makes_the_repository_and_nothing_that_needs_an_image() -> None:
    plan = run("prod", overrides={"tradestack:foundationOnly": "true"})
    packages = {item.type.split("/")[0] for item in plan.resources if item.custom}
    assert "aws:ecr" in packages
    assert not packages & {"aws:lambda", "aws:ecs", "aws:eks", "aws:rds"}
    assert not [item for item in plan.resources if item.type.startswith("kubernetes:")]
    assert "kubeconfig" not in plan.outputs
    assert plan.outputs["repository"].endswith("/tradestack-prod/app")
