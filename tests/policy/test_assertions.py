"""Every assertion lets the good stack pass and finds the fault that it is there for."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from infra.errors import TradestackError
from infra.plan import UNKNOWN, Plan, Secret
from infra.policy import ASSERTIONS, Result, check, estate, evaluate
from tests.policy.good import Ref, declared, document, plan

CLUSTER = ("aws:eks/cluster:Cluster", "main")
NODES = ("aws:eks/nodeGroup:NodeGroup", "general")
TEMPLATE = ("aws:ec2/launchTemplate:LaunchTemplate", "general")
ADDON = ("aws:eks/addon:Addon", "cni")
ROLE = ("aws:iam/role:Role", "pod")
ROLE_POLICY = ("aws:iam/rolePolicy:RolePolicy", "pod")
ATTACHMENT = ("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "pod")
ASSOCIATION = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
VPC = ("aws:ec2/vpc:Vpc", "main")
SUBNET = ("aws:ec2/subnet:Subnet", "us-east-1a")
RULE = ("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "https")
GROUP = ("aws:ec2/securityGroup:SecurityGroup", "edge")
DATABASE = ("aws:rds/instance:Instance", "main")
CACHE = ("aws:elasticache/replicationGroup:ReplicationGroup", "main")
KAFKA = ("aws:msk/cluster:Cluster", "main")
BUCKET = ("aws:s3/bucket:Bucket", "reports")
BACKUPS = ("aws:s3/bucket:Bucket", "backups")
KEY = ("aws:kms/key:Key", "data")
SECRET = ("aws:secretsmanager/secret:Secret", "app")
TOPIC = ("aws:sns/topic:Topic", "trade")
QUEUE = ("aws:sqs/queue:Queue", "report")
FUNCTION = ("aws:lambda/function:Function", "report")
TRAIL = ("aws:cloudtrail/trail:Trail", "main")
STACK = ("pulumi:pulumi:Stack", "tradestack-test")
BALANCER = ("aws:lb/loadBalancer:LoadBalancer", "main")
HTTPS = ("aws:lb/listener:Listener", "https")
HTTP = ("aws:lb/listener:Listener", "http")
REPOSITORY = ("aws:ecr/repository:Repository", "app")
NAMESPACE = ("kubernetes:core/v1:Namespace", "trading-system")
GATEWAY = ("kubernetes:apps/v1:Deployment", "gateway")
JOB = ("kubernetes:batch/v1:Job", "migrate")
SCALER = ("kubernetes:autoscaling/v2:HorizontalPodAutoscaler", "gateway")

POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
DROP = object()

Key = tuple[str, str]
EVERYBODY = {"Effect": "Allow", "Principal": "*", "Action": "sns:Publish", "Resource": "*"}


def of(kind: str, name: str) -> Key:
    return next(key for key in declared() if key[0].endswith(f":{kind}") and key[1] == name)


def block(name: str) -> Key:
    return of("BucketPublicAccessBlock", name)


FAULTS: list[tuple[str, Key, Key, str, Any]] = [
    # (assertion, resource that is reported, resource that is changed, path, new value)
    ("TS001", CLUSTER, CLUSTER, "vpcConfig.publicAccessCidrs", ["0.0.0.0/0"]),
    ("TS001", CLUSTER, CLUSTER, "vpcConfig.publicAccessCidrs", DROP),
    ("TS001", CLUSTER, CLUSTER, "vpcConfig.endpointPrivateAccess", False),
    ("TS002", CLUSTER, CLUSTER, "version", "1.33"),
    ("TS002", CLUSTER, CLUSTER, "version", DROP),
    ("TS003", CLUSTER, CLUSTER, "encryptionConfig", DROP),
    ("TS004", CLUSTER, CLUSTER, "enabledClusterLogTypes", ["api", "audit"]),
    ("TS005", CLUSTER, CLUSTER, "accessConfig.authenticationMode", "API_AND_CONFIG_MAP"),
    ("TS005", CLUSTER, CLUSTER, "accessConfig.bootstrapClusterCreatorAdminPermissions", DROP),
    ("TS006", NODES, NODES, "subnetIds", [Ref("Subnet/us-east-1a"), Ref("Subnet/us-east-1b")]),
    ("TS006", NODES, NODES, "remoteAccess", {"ec2SshKey": "operator"}),
    ("TS006", NODES, of("RouteTableAssociation", "us-east-1a"), "routeTableId", Ref("RouteTable/public")),
    ("TS007", TEMPLATE, TEMPLATE, "metadataOptions.httpTokens", "optional"),
    ("TS007", TEMPLATE, TEMPLATE, "metadataOptions.httpPutResponseHopLimit", 2),
    ("TS007", TEMPLATE, TEMPLATE, "blockDeviceMappings.0.ebs.encrypted", "false"),
    ("TS007", NODES, NODES, "launchTemplate", DROP),
    ("TS008", ROLE, ROLE, "assumeRolePolicy", document({"Effect": "Allow", "Principal": {"AWS": "*"}})),
    (
        "TS008",
        ROLE,
        ROLE,
        "assumeRolePolicy",
        document({"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}}),
    ),
    (
        "TS008",
        ROLE_POLICY,
        ROLE_POLICY,
        "policy",
        document({"Effect": "Allow", "Action": "*", "Resource": "*"}),
    ),
    (
        "TS008",
        ROLE_POLICY,
        ROLE_POLICY,
        "policy",
        document({"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}),
    ),
    ("TS008", ATTACHMENT, ATTACHMENT, "policyArn", "arn:aws:iam::aws:policy/AdministratorAccess"),
    ("TS009", CLUSTER, ADDON, "configurationValues", json.dumps({"enableNetworkPolicy": "false"})),
    ("TS009", ADDON, ADDON, "addonVersion", DROP),
    ("TS010", VPC, of("FlowLog", "main"), "trafficType", "REJECT"),
    ("TS011", VPC, of("DefaultSecurityGroup", "main"), "ingress", [{"protocol": "-1", "self": True}]),
    ("TS012", SUBNET, SUBNET, "mapPublicIpOnLaunch", True),
    ("TS013", VPC, of("NatGateway", "us-east-1c"), "subnetId", Ref("Subnet/us-east-1a")),
    ("TS014", VPC, of("VpcEndpoint", "sts"), "serviceName", "com.amazonaws.us-east-1.sqs"),
    ("TS015", RULE, RULE, "fromPort", 22),
    ("TS015", GROUP, GROUP, "ingress", [{"cidrBlocks": ["0.0.0.0/0"], "fromPort": 0, "toPort": 0}]),
    ("TS016", DATABASE, DATABASE, "storageEncrypted", False),
    ("TS016", DATABASE, DATABASE, "kmsKeyId", DROP),
    ("TS017", DATABASE, DATABASE, "multiAz", False),
    ("TS018", DATABASE, DATABASE, "publiclyAccessible", True),
    ("TS019", DATABASE, DATABASE, "deletionProtection", False),
    ("TS019", DATABASE, DATABASE, "skipFinalSnapshot", True),
    ("TS020", DATABASE, DATABASE, "backupRetentionPeriod", 7),
    ("TS021", DATABASE, DATABASE, "iamDatabaseAuthenticationEnabled", DROP),
    ("TS022", DATABASE, of("ParameterGroup", "main"), "parameters.0.value", "0"),
    ("TS023", DATABASE, DATABASE, "enabledCloudwatchLogsExports", ["upgrade"]),
    ("TS024", DATABASE, DATABASE, "performanceInsightsKmsKeyId", DROP),
    ("TS025", DATABASE, DATABASE, "monitoringInterval", 0),
    ("TS026", DATABASE, DATABASE, "copyTagsToSnapshot", False),
    ("TS027", DATABASE, DATABASE, "manageMasterUserPassword", False),
    ("TS027", DATABASE, DATABASE, "username", "postgres"),
    ("TS027", DATABASE, DATABASE, "port", 5432),
    ("TS028", DATABASE, DATABASE, "caCertIdentifier", "rds-ca-2019"),
    ("TS028", DATABASE, of("EventSubscription", "db-parameter-group"), "enabled", False),
    ("TS029", CACHE, CACHE, "atRestEncryptionEnabled", False),
    ("TS030", CACHE, CACHE, "transitEncryptionMode", "preferred"),
    ("TS031", CACHE, CACHE, "authToken", DROP),
    ("TS032", CACHE, CACHE, "multiAzEnabled", False),
    ("TS033", CACHE, CACHE, "snapshotRetentionLimit", 1),
    ("TS034", CACHE, CACHE, "subnetGroupName", "default"),
    ("TS035", KAFKA, KAFKA, "encryptionInfo.encryptionInTransit.clientBroker", "TLS_PLAINTEXT"),
    ("TS036", KAFKA, KAFKA, "encryptionInfo.encryptionAtRestKmsKeyArn", DROP),
    ("TS037", KAFKA, KAFKA, "clientAuthentication.unauthenticated", True),
    ("TS037", KAFKA, KAFKA, "clientAuthentication.sasl", DROP),
    ("TS038", KAFKA, KAFKA, "numberOfBrokerNodes", 2),
    (
        "TS038",
        KAFKA,
        KAFKA,
        "brokerNodeGroupInfo.connectivityInfo",
        {"publicAccess": {"type": "SERVICE_PROVIDED_EIPS"}},
    ),
    ("TS039", KAFKA, of("Configuration", "main"), "serverProperties", "min.insync.replicas=1"),
    ("TS040", KAFKA, KAFKA, "loggingInfo.brokerLogs.cloudwatchLogs.enabled", False),
    ("TS041", BUCKET, block("reports"), "restrictPublicBuckets", False),
    ("TS042", BUCKET, of("BucketVersioning", "reports"), "versioningConfiguration.status", "Suspended"),
    (
        "TS042",
        BUCKET,
        of("BucketLifecycleConfiguration", "reports"),
        "rules.0.abortIncompleteMultipartUpload",
        DROP,
    ),
    (
        "TS043",
        BUCKET,
        of("BucketServerSideEncryptionConfiguration", "reports"),
        "rules.0.applyServerSideEncryptionByDefault",
        {"sseAlgorithm": "AES256"},
    ),
    ("TS043", BUCKET, of("BucketPolicy", "reports"), "policy", document()),
    ("TS043", BUCKET, of("BucketOwnershipControls", "reports"), "rule.objectOwnership", "ObjectWriter"),
    ("TS044", BUCKET, of("BucketLogging", "reports"), "bucket", Ref("Bucket/backups")),
    ("TS044", BACKUPS, BACKUPS, "objectLockEnabled", False),
    ("TS045", KEY, KEY, "enableKeyRotation", False),
    ("TS045", KEY, KEY, "deletionWindowInDays", 7),
    ("TS045", KEY, KEY, "policy", document(EVERYBODY)),
    ("TS046", SECRET, of("SecretRotation", "app"), "secretId", "another"),
    ("TS047", TOPIC, TOPIC, "kmsMasterKeyId", "alias/aws/sns"),
    ("TS047", TOPIC, of("TopicPolicy", "trade"), "policy", document(EVERYBODY)),
    ("TS048", FUNCTION, FUNCTION, "runtime", "python3.8"),
    ("TS048", FUNCTION, FUNCTION, "deadLetterConfig", DROP),
    ("TS048", FUNCTION, FUNCTION, "reservedConcurrentExecutions", DROP),
    ("TS048", FUNCTION, FUNCTION, "vpcConfig", DROP),
    ("TS049", TRAIL, TRAIL, "isMultiRegionTrail", False),
    ("TS050", BALANCER, BALANCER, "dropInvalidHeaderFields", False),
    ("TS050", HTTPS, HTTPS, "sslPolicy", "ELBSecurityPolicy-2016-08"),
    ("TS050", HTTP, HTTP, "defaultActions", [{"type": "forward"}]),
    ("TS051", REPOSITORY, REPOSITORY, "imageTagMutability", "MUTABLE"),
    ("TS051", REPOSITORY, of("LifecyclePolicy", "app"), "repository", "another"),
    ("TS052", GATEWAY, GATEWAY, f"{CONTAINER}.livenessProbe.httpGet.host", "metadata.example.com"),
    ("TS052", GATEWAY, GATEWAY, f"{CONTAINER}.lifecycle.preStop", {"httpGet": {"host": "10.0.0.1"}}),
    ("TS053", GATEWAY, GATEWAY, f"{CONTAINER}.securityContext.readOnlyRootFilesystem", DROP),
    ("TS053", GATEWAY, GATEWAY, f"{POD}.securityContext.runAsUser", 1000),
    ("TS053", GATEWAY, GATEWAY, f"{CONTAINER}.image", "registry.example.com/app:latest"),
    ("TS054", GATEWAY, GATEWAY, f"{POD}.automountServiceAccountToken", True),
    ("TS054", GATEWAY, GATEWAY, f"{POD}.serviceAccountName", "default"),
    (
        "TS054",
        GATEWAY,
        GATEWAY,
        f"{CONTAINER}.env",
        [{"name": "APP_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "app", "key": "password"}}}],
    ),
    ("TS055", NAMESPACE, of("NetworkPolicy", "deny"), "spec.policyTypes", ["Ingress"]),
    ("TS055", NAMESPACE, of("NetworkPolicy", "dns"), "spec.egress", [{"ports": [{"port": 443}]}]),
    ("TS056", GATEWAY, GATEWAY, f"{CONTAINER}.resources.limits.memory", DROP),
    ("TS056", NAMESPACE, of("LimitRange", "limits"), "metadata.namespace", "another"),
    ("TS057", GATEWAY, of("PodDisruptionBudget", "gateway"), "spec.unhealthyPodEvictionPolicy", DROP),
    ("TS057", GATEWAY, of("PodDisruptionBudget", "gateway"), "metadata.namespace", "another"),
    ("TS058", GATEWAY, GATEWAY, f"{POD}.topologySpreadConstraints", []),
    ("TS059", GATEWAY, GATEWAY, f"{CONTAINER}.startupProbe", DROP),
    ("TS059", GATEWAY, GATEWAY, f"{CONTAINER}.readinessProbe.httpGet.path", "/health/live"),
    ("TS060", SCALER, GATEWAY, "spec.replicas", 2),
    ("TS061", CACHE, CACHE, "authToken", "correct-horse-battery"),
    (
        "TS061",
        GATEWAY,
        GATEWAY,
        f"{CONTAINER}.env.0.value",
        "postgresql://app:hunter2@db.example.com/trading",
    ),
    ("TS061", FUNCTION, FUNCTION, "environment.variables.API_KEY", "k7Jq2LxPz9RtWv4YbN8m"),
    ("TS061", FUNCTION, FUNCTION, "environment.variables.OTHER", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("TS061", SECRET, SECRET, "description", "${generated:database-password}"),
    ("TS062", BUCKET, BUCKET, "@protect", False),
    ("TS062", DATABASE, DATABASE, "@protect", False),
]


def broken(key: Key, path: str, value: Any) -> Plan:
    found = declared()
    target: Any = found[key]
    *parents, last = path.split(".") if not path.startswith("@") else [path]
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
    if value is DROP:
        del target[last]
    else:
        target[last] = value
    return plan(found)


def reported(found: Plan) -> set[tuple[str, Key]]:
    return {
        (finding.id, (item.type, item.name))
        for finding in check(found)
        for item in [found.by_urn[finding.resource]]
    }


def test_the_good_stack_keeps_every_assertion() -> None:
    assert check(plan(declared())) == []


@pytest.mark.parametrize(
    ("id_", "resource", "changed", "path", "value"),
    FAULTS,
    ids=[f"{item[0]}-{item[2][1]}-{item[3].rsplit('.', 1)[-1]}-{index}" for index, item in enumerate(FAULTS)],
)
def test_a_planted_fault_is_found_by_its_assertion_and_by_no_other(
    id_: str, resource: Key, changed: Key, path: str, value: Any
) -> None:
    assert reported(broken(changed, path, value)) == {(id_, resource)}


def test_every_assertion_has_a_planted_fault() -> None:
    assert {item[0] for item in FAULTS} == set(ASSERTIONS) == {f"TS{number:03}" for number in range(1, 63)}


def test_what_is_missing_altogether_is_found() -> None:
    for gone, id_, resource in [
        (of("FlowLog", "main"), "TS010", VPC),
        (of("DefaultSecurityGroup", "main"), "TS011", VPC),
        (block("reports"), "TS041", BUCKET),
        (of("BucketPolicy", "backups"), "TS043", BACKUPS),
        (TRAIL, "TS049", STACK),
        (ADDON, "TS009", CLUSTER),
    ]:
        found = declared()
        del found[gone]
        assert reported(plan(found)) == {(id_, resource)}


def test_two_accounts_or_two_scalers_on_one_target_are_found() -> None:
    found = declared()
    found[ASSOCIATION, "another"] = {"serviceAccount": "another", "roleArn": Ref("Role/pod")}
    found["kubernetes:keda.sh/v1alpha1:ScaledObject", "gateway"] = {
        "metadata": {"name": "gateway", "namespace": "trading-system"},
        "spec": {"scaleTargetRef": {"name": "gateway"}},
    }
    assert {id_ for id_, _ in reported(plan(found))} == {"TS008", "TS060"}


def test_with_a_replica_the_password_may_be_a_secret_that_is_rotated() -> None:
    password = ("random:index/randomPassword:RandomPassword", "master")
    version = ("aws:secretsmanager/secretVersion:SecretVersion", "app")
    found = declared()
    found |= {
        password: {},
        version: {"secretId": Ref("Secret/app"), "secretString": Secret(Ref("RandomPassword/master"))},
        (DATABASE[0], "replica"): {
            **found[DATABASE],
            "replicateSourceDb": "tradestack",
            "identifier": "replica",
        },
    }
    found[DATABASE] |= {"manageMasterUserPassword": None, "password": Secret(Ref("RandomPassword/master"))}
    assert check(plan(found)) == []
    without_rotation = {key: value for key, value in found.items() if key != of("SecretRotation", "app")}
    assert reported(plan(without_rotation)) == {("TS027", DATABASE), ("TS046", SECRET)}
    without_replica = {key: value for key, value in found.items() if key != (DATABASE[0], "replica")}
    assert reported(plan(without_replica)) == {("TS027", DATABASE)}


def test_a_queue_that_nobody_takes_dead_letters_from_is_no_dead_letter_queue() -> None:
    found = declared()
    found["aws:sqs/queue:Queue", "report"]["redrivePolicy"] = None
    assert reported(plan(found)) == {("TS047", QUEUE), ("TS047", ("aws:sqs/queue:Queue", "report-dead"))}


def _paths(value: Any, path: str = "") -> list[str]:
    if isinstance(value, Mapping):
        found = [path] if path else []
        for key, item in value.items():
            found += _paths(item, f"{path}.{key}" if path else key)
        return found
    return [path]


@pytest.mark.parametrize("key", list(declared()), ids=lambda key: f"{key[0].rsplit(':', 1)[-1]}-{key[1]}")
def test_an_unknown_value_never_crashes(key: Key) -> None:
    original = plan(declared())
    resource = next(item for item in original.resources if (item.type, item.name) == key)
    for path in _paths(resource.inputs):
        inputs = json.loads(json.dumps(resource.inputs, default=lambda value: "?"))
        target = inputs
        *parents, last = path.split(".") if path in _safe(inputs) else [path]
        for part in parents:
            target = target[part]
        target[last] = UNKNOWN
        others = tuple(
            replace(item, inputs=inputs) if item is resource else item for item in original.resources
        )
        check(replace(original, resources=others))


def _safe(inputs: Mapping[str, Any]) -> list[str]:
    """Paths whose keys hold no dot themselves."""
    return [path for path in _paths(inputs) if _reach(inputs, path)]


def _reach(value: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


@pytest.mark.parametrize(
    ("id_", "key", "path"),
    [
        ("TS016", DATABASE, "storageEncrypted"),
        ("TS017", DATABASE, "multiAz"),
        ("TS018", DATABASE, "publiclyAccessible"),
        ("TS019", DATABASE, "deletionProtection"),
        ("TS020", DATABASE, "backupRetentionPeriod"),
        ("TS001", CLUSTER, "vpcConfig"),
        ("TS004", CLUSTER, "enabledClusterLogTypes"),
        ("TS008", ROLE_POLICY, "policy"),
        ("TS012", SUBNET, "mapPublicIpOnLaunch"),
        ("TS015", RULE, "cidrIpv4"),
        ("TS039", of("Configuration", "main"), "serverProperties"),
        ("TS045", KEY, "policy"),
        ("TS053", GATEWAY, f"{CONTAINER}.image"),
        ("TS055", of("NetworkPolicy", "deny"), "spec"),
    ],
)
def test_an_unknown_value_does_not_count_as_a_kept_assertion(id_: str, key: Key, path: str) -> None:
    if path == "cidrIpv4":
        found = declared()
        found[key] |= {"cidrIpv4": UNKNOWN, "fromPort": 22}
        assert id_ in {finding.id for finding in check(plan(found))}
    else:
        assert id_ in {finding.id for finding in check(broken(key, path, UNKNOWN))}


def test_a_secret_value_is_read_but_never_shown() -> None:
    found = broken(DATABASE, "password", Secret("hunter2-and-more"))
    findings = check(found)
    assert {finding.id for finding in findings} == {"TS027"}
    assert "hunter2" not in str(findings)


def test_rules_for_production_do_not_hold_elsewhere() -> None:
    found = declared()
    found[DATABASE] |= {"backupRetentionPeriod": 7, "@protect": False}
    del found[of("NatGateway", "us-east-1c")]
    assert check(plan(found, stack="dev")) == []
    assert {finding.id for finding in check(plan(found))} == {"TS013", "TS020", "TS062"}


def test_the_settings_file_says_which_rules_hold(tmp_path: Any) -> None:
    settings = tmp_path / "Pulumi.live.yaml"
    settings.write_text("config:\n  tradestack:environment: production\n")
    found = replace(broken(DATABASE, "@protect", False), stack="live", settings_file=settings)
    assert [finding.id for finding in check(found)] == ["TS062"]


def test_a_relaxed_assertion_keeps_its_finding_with_the_reason() -> None:
    found = broken(DATABASE, "multiAz", False)
    result: Result = evaluate(estate(found), {"TS017": "one zone is enough for development"})
    assert [(item.id, item.reason) for item in result.findings] == [
        ("TS017", "one zone is enough for development")
    ]


@pytest.mark.parametrize(
    ("relax", "message"),
    [
        ({"TS099": "a reason in words"}, "relaxed assertion 'TS099': no such assertion"),
        ({"TS017": " "}, "relaxed assertion 'TS017' has no reason"),
    ],
)
def test_a_relaxation_of_nothing_or_without_reason_is_refused(relax: dict[str, str], message: str) -> None:
    with pytest.raises(TradestackError, match=message):
        check(plan(declared()), relax)


def test_assertions_name_the_findings_of_aws_that_they_answer() -> None:
    assert ASSERTIONS["TS016"].fsbp == ("RDS.3",)
    assert ASSERTIONS["TS028"].fsbp == ("RDS.19", "RDS.20", "RDS.21", "RDS.22")
    assert all(item.title and item.family for item in ASSERTIONS.values())


def test_a_local_stack_is_asked_for_no_trail_and_no_digest() -> None:
    found = {key: value for key, value in declared().items() if not key[0].startswith("aws:")}
    found[GATEWAY]["spec"]["template"]["spec"]["containers"][0]["image"] = "tradestack/app:0123456789abcdef"
    assert check(plan(found)) == []
