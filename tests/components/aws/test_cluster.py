"""Who may use the cluster, what its nodes may do, and in which order it comes up."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from components.aws.cluster import Cluster, ClusterArgs
from components.aws.node_groups import NodeGroup, Schedule, Taint
from components.aws.scope import Scope

SCOPE = Scope(prefix="tradestack-test", account="123456789012", region="us-east-1")
GENERAL = NodeGroup("general", ("m7i.large",), "ON_DEMAND", minimum=2, maximum=6, desired=3, disk_gib=50)
MATCHING = replace(
    GENERAL,
    name="performance",
    instance_types=("c7i.2xlarge",),
    labels={"tradestack/pool": "performance"},
    taints=(Taint("dedicated", "matching"),),
    whole_cpus=True,
)
ADDONS = {
    "vpc-cni": "v1.22.4-eksbuild.3",
    "coredns": "v1.13.2-eksbuild.31",
    "kube-proxy": "v1.35.3-eksbuild.29",
    "eks-pod-identity-agent": "v1.3.10-eksbuild.3",
    "aws-ebs-csi-driver": "v1.66.0-eksbuild.1",
    "metrics-server": "v0.9.0-eksbuild.6",
}
ARGS = ClusterArgs(
    scope=SCOPE,
    subnet_ids=("subnet-a", "subnet-b", "subnet-c"),
    control_plane_subnet_ids=("subnet-a", "subnet-b", "subnet-c"),
    key_arn="arn:key",
    log_key_arn="arn:log-key",
    log_days=30,
    version="1.35",
    public_access_cidrs=(),
    admins={"deployer": "arn:aws:iam::123456789012:role/deployer"},
    addons=ADDONS,
    node_groups=(GENERAL, MATCHING),
    node_tags={"Environment": "test"},
)

Record = Callable[[Callable[[], object]], Any]


@pytest.fixture(autouse=True)
def computed(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """What AWS would answer beyond the inputs."""
    recorder = record.__globals__["Recorder"]
    answer = recorder.new_resource

    def with_computed(self: Any, args: Any) -> tuple[str, dict[str, Any]]:
        name, state = answer(self, args)
        if args.typ.endswith(":NodeGroup"):
            state["resources"] = [{"autoscalingGroups": [{"name": f"eks-{args.name}"}]}]
        if args.typ.endswith("cluster:Cluster"):
            state["endpoint"] = "https://api.example.com"
            state["certificateAuthority"] = {"data": "Y2E="}
            state["vpcConfig"] = {**args.inputs["vpcConfig"], "clusterSecurityGroupId": "sg-cluster"}
        if args.typ.endswith("role:Role"):
            state["arn"] = f"arn:aws:iam::123456789012:role/{args.inputs['name']}"
        if args.typ.endswith(":LaunchTemplate"):
            state["latestVersion"] = 7
        return name, state

    monkeypatch.setattr(recorder, "new_resource", with_computed)


def _of(recorded: Any, kind: str) -> dict[str, dict[str, Any]]:
    return {item.name: item.inputs for item in recorded.custom() if item.typ.endswith(f":{kind}")}


def _registered(record: Record, **change: Any) -> Any:
    return record(lambda: Cluster("cluster", replace(ARGS, **change)))


def _control_plane(recorded: Any) -> dict[str, Any]:
    return recorded.one("Cluster", "cluster")


def test_the_api_is_reached_from_the_vpc_only_unless_addresses_are_listed(record: Record) -> None:
    private = _control_plane(_registered(record))["vpcConfig"]
    assert (private["endpointPrivateAccess"], private["endpointPublicAccess"]) == (True, False)
    assert "publicAccessCidrs" not in private
    public = _control_plane(_registered(record, public_access_cidrs=("203.0.113.0/24",)))["vpcConfig"]
    assert (public["endpointPrivateAccess"], public["endpointPublicAccess"]) == (True, True)
    assert public["publicAccessCidrs"] == ["203.0.113.0/24"]


def test_only_those_named_may_use_the_cluster(record: Record) -> None:
    recorded = _registered(record)
    access = _control_plane(recorded)["accessConfig"]
    assert access == {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False}
    assert recorded.one("AccessEntry")["principalArn"] == "arn:aws:iam::123456789012:role/deployer"
    association = recorded.one("AccessPolicyAssociation")
    assert association["policyArn"].endswith("cluster-access-policy/AmazonEKSClusterAdminPolicy")
    assert association["accessScope"] == {"type": "cluster"}


def test_secrets_and_logs_are_under_customer_keys_and_all_five_logs_are_kept(record: Record) -> None:
    recorded = _registered(record)
    cluster = _control_plane(recorded)
    assert cluster["encryptionConfig"] == {"provider": {"keyArn": "arn:key"}, "resources": ["secrets"]}
    assert cluster["enabledClusterLogTypes"] == [
        "api",
        "audit",
        "authenticator",
        "controllerManager",
        "scheduler",
    ]
    logs = _of(recorded, "LogGroup")
    assert logs["cluster-control-plane"]["name"] == f"/aws/eks/{cluster['name']}/cluster"
    written = {item["name"] for item in logs.values()} - {f"/aws/eks/{cluster['name']}/cluster"}
    parts = ("application", "dataplane", "host", "performance")
    assert written == {f"/aws/containerinsights/{cluster['name']}/{part}" for part in parts}
    assert {(log["kmsKeyId"], log["retentionInDays"]) for log in logs.values()} == {("arn:log-key", 30)}
    assert (cluster["version"], cluster["upgradePolicy"]) == ("1.35", {"supportType": "STANDARD"})
    assert cluster["bootstrapSelfManagedAddons"] is False


def test_addons_are_pinned_and_the_network_driver_enforces_policies(record: Record) -> None:
    addons = _of(_registered(record), "Addon")
    assert {item["addonName"]: item["addonVersion"] for item in addons.values()} == ADDONS
    settings = json.loads(addons["cluster-vpc-cni"]["configurationValues"])
    assert settings["enableNetworkPolicy"] == "true"


def test_drivers_get_their_own_roles_and_nodes_almost_nothing(record: Record) -> None:
    recorded = _registered(record)
    addons = _of(recorded, "Addon")
    bound = {
        name: [item["serviceAccount"] for item in addon.get("podIdentityAssociations", [])]
        for name, addon in addons.items()
    }
    assert {name: accounts for name, accounts in bound.items() if accounts} == {
        "cluster-vpc-cni": ["aws-node"],
        "cluster-aws-ebs-csi-driver": ["ebs-csi-controller-sa"],
    }
    managed = {
        item["policyArn"].rsplit("/", 1)[-1]
        for item in _of(recorded, "RolePolicyAttachment").values()
        if item["role"] == "tradestack-test-cluster-node"
    }
    assert managed == {"AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly"}
    own = json.loads(recorded.one("RolePolicy", "cluster-node")["policy"])["Statement"]
    assert all(action.startswith("ec2:Describe") for item in own for action in item["Action"])
    trusted = json.loads(recorded.one("Role", "cluster-cni")["assumeRolePolicy"])["Statement"][0]
    assert trusted["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    tag = trusted["Condition"]["StringEquals"]["aws:RequestTag/eks-cluster-arn"]
    assert tag.endswith(":cluster/tradestack-test-cluster")


def test_machines_hide_their_role_from_pods_and_encrypt_their_volumes(record: Record) -> None:
    recorded = _registered(record)
    templates = _of(recorded, "LaunchTemplate")
    assert set(templates) == {"cluster-general", "cluster-performance"}
    for template in templates.values():
        metadata = template["metadataOptions"]
        assert (metadata["httpTokens"], metadata["httpPutResponseHopLimit"]) == ("required", 1)
        volume = template["blockDeviceMappings"][0]["ebs"]
        assert (volume["volumeType"], volume["encrypted"], volume["kmsKeyId"]) == ("gp3", "true", "arn:key")
        assert not {"keyName", "vpcSecurityGroupIds", "networkInterfaces"} & template.keys()
        kinds = {item["resourceType"]: item["tags"] for item in template["tagSpecifications"]}
        assert set(kinds) == {"instance", "volume", "network-interface"}
        assert all(tags["Environment"] == "test" for tags in kinds.values())
    assert "remoteAccess" not in _of(recorded, "NodeGroup")["cluster-general"]


def test_machines_and_the_volume_driver_may_use_the_key_of_volumes(record: Record) -> None:
    grants = _of(_registered(record), "Grant")
    assert {name: item["granteePrincipal"].rsplit("/", 1)[-1] for name, item in grants.items()} == {
        "cluster-volumes": "AWSServiceRoleForAutoScaling",
        "cluster-ebs": "tradestack-test-cluster-ebs",
    }
    for grant in grants.values():
        assert grant["keyId"] == "arn:key"
        assert {"CreateGrant", "Decrypt", "GenerateDataKeyWithoutPlaintext"} <= set(grant["operations"])


def test_groups_carry_their_labels_taints_sizes_and_template(record: Record) -> None:
    groups = _of(_registered(record), "NodeGroup")
    group = groups["cluster-performance"]
    assert group["taints"] == [{"key": "dedicated", "value": "matching", "effect": "NO_SCHEDULE"}]
    assert group["labels"] == {"tradestack/pool": "performance"}
    assert group["scalingConfig"] == {"minSize": 2, "maxSize": 6, "desiredSize": 3}
    assert group["launchTemplate"] == {"id": "cluster-performance-id", "version": "7"}
    assert group["subnetIds"] == ["subnet-a", "subnet-b", "subnet-c"]
    assert (group["version"], group["amiType"]) == ("1.35", "AL2023_x86_64_STANDARD")


def test_only_groups_that_ask_for_it_give_whole_cpus(record: Record) -> None:
    templates = _of(_registered(record), "LaunchTemplate")
    settings = base64.b64decode(templates["cluster-performance"]["userData"]).decode()
    assert "cpuManagerPolicy: static" in settings
    assert "userData" not in templates["cluster-general"]


def test_what_aws_cannot_change_in_place_gets_a_new_name_and_the_rest_does_not(record: Record) -> None:
    def name(**change: Any) -> str:
        recorded = _registered(record, node_groups=(replace(GENERAL, **change),))
        return str(_of(recorded, "NodeGroup")["cluster-general"]["nodeGroupName"])

    same = {name(), name(disk_gib=80), name(maximum=9), name(labels={"a": "b"})}
    others = {name(instance_types=("m7i.xlarge",)), name(capacity="SPOT")}
    assert len(same) == 1
    assert len(others | same) == 3
    assert all(len(item) <= 63 for item in same | others)


def test_a_schedule_empties_the_group_at_its_end_and_fills_it_at_its_start(record: Record) -> None:
    hours = Schedule(start="0 7 * * 1-5", stop="0 20 * * 1-5", zone="America/New_York")
    recorded = _registered(record, node_groups=(replace(GENERAL, schedule=hours), MATCHING))
    actions = _of(recorded, "Schedule")
    assert set(actions) == {"cluster-general-start", "cluster-general-stop"}
    start, stop = actions["cluster-general-start"], actions["cluster-general-stop"]
    assert (start["recurrence"], start["minSize"], start["desiredCapacity"]) == ("0 7 * * 1-5", 2, 3)
    assert (stop["recurrence"], stop["minSize"], stop["desiredCapacity"]) == ("0 20 * * 1-5", 0, 0)
    assert {item["timeZone"] for item in actions.values()} == {"America/New_York"}
    assert {item["autoscalingGroupName"] for item in actions.values()} == {"eks-cluster-general"}
    assert {item["maxSize"] for item in actions.values()} == {-1}


def _options(record: Record, **change: Any) -> dict[str, pulumi.ResourceOptions]:
    """Options of every resource, by the last part of its type and its name."""
    found: dict[str, pulumi.ResourceOptions] = {}

    def keep(args: pulumi.ResourceTransformationArgs) -> None:
        found[f"{args.type_.rsplit(':', 1)[-1]}/{args.name}"] = args.opts

    opts = pulumi.ResourceOptions(transformations=[keep])
    record(lambda: Cluster("cluster", replace(ARGS, **change), opts))
    return found


def _waits_for(options: pulumi.ResourceOptions) -> set[str]:
    return {item._name for item in options.depends_on or []}  # type: ignore[union-attr]


def test_nodes_wait_for_network_and_identity_and_the_rest_waits_for_nodes(record: Record) -> None:
    options = _options(record)
    first = {"cluster-vpc-cni", "cluster-kube-proxy", "cluster-eks-pod-identity-agent"}
    for group in ("cluster-general", "cluster-performance"):
        assert _waits_for(options[f"NodeGroup/{group}"]) == {*first, "cluster-volumes"}
    for addon in first:
        assert _waits_for(options[f"Addon/{addon}"]) == set()
    for addon in ("coredns", "aws-ebs-csi-driver", "metrics-server"):
        waits = _waits_for(options[f"Addon/cluster-{addon}"])
        assert waits == {"cluster-general", "cluster-performance"}
    assert _waits_for(options["Cluster/cluster"]) >= {"cluster-control-plane"}


def test_what_others_own_is_left_to_them(record: Record) -> None:
    hours = Schedule(start="0 7 * * 1-5", stop="0 20 * * 1-5", zone="America/New_York")
    options = _options(record, node_groups=(GENERAL, replace(GENERAL, name="spot", schedule=hours)))
    always = ["scalingConfig.desiredSize"]
    assert options["NodeGroup/cluster-general"].ignore_changes == always
    assert options["NodeGroup/cluster-spot"].ignore_changes == [*always, "scalingConfig.minSize"]


def test_the_kubeconfig_asks_for_a_token_and_names_no_profile(record: Record) -> None:
    found: list[str] = []

    def build() -> None:
        cluster = Cluster("cluster", ARGS)
        pulumi.Output.all(cluster.kubeconfig, cluster.ready, cluster.security_group_id).apply(found.extend)

    record(build)
    config, ready, group = found
    assert (ready, group) == ("tradestack-test-cluster", "sg-cluster")
    read = json.loads(config)
    assert read["clusters"][0]["cluster"] == {
        "server": "https://api.example.com",
        "certificate-authority-data": "Y2E=",
    }
    command = read["users"][0]["user"]["exec"]
    assert [command["command"], *command["args"]] == [
        *("aws", "eks", "get-token", "--cluster-name", "tradestack-test-cluster"),
        *("--region", "us-east-1", "--output", "json"),
    ]
    assert "env" not in command
    context = read["contexts"][0]
    assert read["current-context"] == context["name"]
    assert context["context"]["cluster"] == read["clusters"][0]["name"]
    assert context["context"]["user"] == read["users"][0]["name"]


def test_others_in_the_vpc_reach_the_api_through_their_security_group(record: Record) -> None:
    rule = _registered(record, api_clients={"build": "sg-build"}).one("SecurityGroupIngressRule")
    assert (rule["securityGroupId"], rule["referencedSecurityGroupId"]) == ("sg-cluster", "sg-build")
    assert (rule["fromPort"], rule["toPort"]) == (443, 443)


def test_a_protected_cluster_is_deleted_by_nobody(record: Record) -> None:
    assert _control_plane(_registered(record, protect=True))["deletionProtection"] is True
    assert _control_plane(_registered(record))["deletionProtection"] is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "latest"}, "Kubernetes version 'latest': major and minor"),
        ({"public_access_cidrs": ("0.0.0.0/0",)}, "public access 0.0.0.0/0: name the addresses"),
        ({"admins": {}}, "admins: at least one is needed"),
        (
            {"addons": {"coredns": "v1.13.2-eksbuild.31"}},
            "eks-pod-identity-agent, kube-proxy, vpc-cni missing",
        ),
        ({"addons": {**ADDONS, "coredns": "latest"}}, "add-on coredns: version 'latest'"),
        ({"addons": {**ADDONS, "kube-proxy": "v1.34.6-eksbuild.2"}}, "does not belong to Kubernetes 1.35"),
        ({"node_groups": (MATCHING,)}, "one without taints is needed"),
        ({"node_groups": (GENERAL, GENERAL)}, "node group 'general': given twice"),
        ({"node_groups": (replace(GENERAL, instance_types=()),)}, "at least one instance type"),
        ({"node_groups": (replace(GENERAL, desired=1),)}, "must rise, not 2, 1, 6"),
        ({"node_groups": (replace(GENERAL, minimum=0, desired=0, maximum=0),)}, "maximum be at least 1"),
        ({"node_groups": (replace(GENERAL, disk_gib=8),)}, "disk 8 GiB, from 20 to 16384"),
    ],
)
def test_bad_arguments_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cluster("cluster", replace(ARGS, **change))
