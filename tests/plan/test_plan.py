"""The plan as a whole: complete, ordered, masked, the same as the mocks see it."""

import asyncio
import gc
import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import rpc
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks, set_mocks
from rich.console import Console

import stacks
from infra.errors import TradestackError
from infra.plan import Plan, PlannedResource, Secret, masked, run, show, stackfile
from infra.plan.monitor import reference
from infra.render.objects import objects
from infra.settings import parse

SNAPSHOT = Path(__file__).parent / "urns.local.txt"


def test_urns_are_those_of_the_snapshot(local_plan: Plan) -> None:
    """A changed URN replaces the resource, unless it has an alias; then rewrite the snapshot.

    TRADESTACK_WRITE_SNAPSHOTS=1 does that.
    """
    urns = "".join(
        f"{resource.urn}\n" for resource in sorted(local_plan.resources, key=lambda item: item.urn)
    )
    if os.environ.get("TRADESTACK_WRITE_SNAPSHOTS"):
        SNAPSHOT.write_text(urns)
    assert urns == SNAPSHOT.read_text()


def test_each_resource_comes_after_what_it_depends_on(local_plan: Plan) -> None:
    seen: set[str] = set()
    for resource in local_plan.resources:
        needs = {resource.parent, resource.provider, *resource.dependencies} - {""}
        assert needs <= seen
        seen.add(resource.urn)
    assert len(seen) == len(local_plan.resources) == 233


def test_data_services_come_before_tasks_before_services(local_plan: Plan) -> None:
    position = {(item.type.rsplit(":", 1)[-1], item.name): n for n, item in enumerate(local_plan.resources)}
    order = [("Namespace", "trading-data"), ("Credentials", "credentials")]
    order += [("StatefulSet", "postgresql"), ("Job", "migrate"), ("Deployment", "gateway")]
    order += [("HorizontalPodAutoscaler", "gateway")]
    assert [position[key] for key in order] == sorted(position[key] for key in order)


def test_no_route_is_there_before_its_policies_or_after_them(local_plan: Plan) -> None:
    """Without the engine in the order of objects; with it by dependencies, which it deletes in reverse."""
    policies = {"BackendTrafficPolicy", "ClientTrafficPolicy", "SecurityPolicy"}
    kinds = [item.kind for item in objects(local_plan) if item.kind in policies | {"HTTPRoute"}]
    assert kinds.index("HTTPRoute") > max(n for n, kind in enumerate(kinds) if kind in policies)
    routes = [item for item in local_plan.resources if item.type.endswith(":HTTPRoute")]
    assert len(routes) == 5
    for route in routes:
        guards = {
            item.urn
            for item in local_plan.resources
            if item.type.rsplit(":", 1)[-1] in policies
            and item.inputs["spec"]["targetRefs"][0]["name"] in {"edge", route.inputs["metadata"]["name"]}
        }
        assert len(guards) >= 3
        assert guards <= set(route.dependencies)


def test_every_resource_names_its_provider_and_none_is_a_default(local_plan: Plan) -> None:
    for resource in local_plan.resources:
        if resource.custom and not resource.type.startswith("pulumi:"):
            provider = local_plan.by_urn[resource.provider]
            assert provider.type == f"pulumi:providers:{resource.type.split(':', 1)[0]}"


def test_one_kubernetes_provider_that_no_kubeconfig_can_replace(local_plan: Plan) -> None:
    providers = [item for item in local_plan.resources if item.type == "pulumi:providers:kubernetes"]
    assert len(providers) == 1
    assert providers[0].inputs["clusterIdentifier"] == "tradestack-local"
    assert providers[0].inputs["enableServerSideApply"] == "true"


def test_objects_have_explicit_names_and_nothing_empty(local_plan: Plan) -> None:
    def empty(value: Any, path: str) -> list[str]:
        if isinstance(value, dict):
            bare = [path] if not value and not path.endswith(".podSelector") else []
            return bare + [found for key, item in value.items() for found in empty(item, f"{path}.{key}")]
        if isinstance(value, list):
            return ([path] if not value else []) + [
                found for item in value for found in empty(item, f"{path}[]")
            ]
        return []

    for resource in local_plan.resources:
        if resource.type.startswith("kubernetes:"):
            assert resource.inputs["metadata"]["name"]
            assert empty(dict(resource.inputs), resource.name) == []


def test_masking_reaches_every_depth() -> None:
    assert masked({"a": Secret("x"), "b": [Secret({"c": 1})]}) == {"a": "[secret]", "b": ["[secret]"]}


def test_two_plans_are_equal(local_plan: Plan) -> None:
    again = run("local")
    assert [item.urn for item in again.resources] == [item.urn for item in local_plan.resources]
    mine = {item.urn: masked(item.inputs) for item in local_plan.resources if "providers:" not in item.type}
    assert mine == {
        item.urn: masked(item.inputs) for item in again.resources if "providers:" not in item.type
    }


def test_two_processes_print_the_same_bytes() -> None:
    command = [sys.executable, "-m", "infra.cli", "plan", "local", "--json"]
    first, second = (subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2))
    assert first == second


def test_json_has_the_agreed_form(local_plan: Plan) -> None:
    document = json.loads(json.dumps(show.document(local_plan)))
    assert set(document) == {"stack", "resources", "outputs"}
    assert document["stack"] == "local"
    wanted = {"urn": str, "type": str, "name": str, "parent": str, "inputs": dict, "dependencies": list}
    wanted |= {"protect": bool, "secrets": list}
    for resource in document["resources"]:
        for key, kind in wanted.items():
            assert isinstance(resource[key], kind), key
    assert document["outputs"]["urls"] == {
        "web": "http://localhost:30080",
        "api": "http://localhost:30080/api",
    }
    secrets = {item["name"]: item["secrets"] for item in document["resources"] if item["secrets"]}
    assert secrets == {
        "trading-data-app-keys": ["stringData"],
        "trading-data-postgresql": ["stringData"],
        "trading-data-redis": ["stringData"],
        "trading-system-app-secrets": ["stringData"],
    }


def test_no_secret_is_shown_anywhere(local_plan: Plan) -> None:
    passwords = [item.name for item in local_plan.resources if item.type.endswith(":RandomPassword")]
    assert passwords == [
        "auth-encryption-key",
        "auth-signing-key",
        "cache-password",
        "database-password",
        "internal-token",
    ]
    output = io.StringIO()
    Console(file=output, width=200).print(show.text(local_plan))
    shown = [
        json.dumps(show.document(local_plan)),
        output.getvalue(),
        repr(local_plan),
        str(local_plan.outputs),
    ]
    for text in shown:
        assert all(reference(name) not in text for name in passwords)


def test_tree_shows_components_with_their_resources(local_plan: Plan) -> None:
    output = io.StringIO()
    Console(file=output, width=200).print(show.text(local_plan))
    lines = [line.strip("│├└─ ") for line in output.getvalue().splitlines()]
    assert lines[0] == "tradestack-local"
    at = lines.index("Service gateway")
    assert set(lines[at + 1 : at + 6]) == {
        "Deployment gateway",
        "Service gateway",
        "Service gateway-metrics",
        "ServiceAccount gateway",
        "PodDisruptionBudget gateway",
    }
    assert any(line.startswith("233 resources: 178 kubernetes, ") for line in lines)


def test_mocks_see_the_same_resources_with_the_same_inputs(local_plan: Plan) -> None:
    class Recorder(Mocks):
        def __init__(self) -> None:
            self.registered: list[MockResourceArgs] = []

        def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
            self.registered.append(args)
            return f"{args.name}-id", {**args.inputs, "result": reference(args.name)}

        def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
            raise AssertionError(args.token)

    configuration = stackfile.configuration(stackfile.locate("local"))
    mine = {
        key.split(":", 1)[1]: value for key, value in configuration.items() if key.startswith("tradestack:")
    }

    def record() -> list[MockResourceArgs]:
        asyncio.set_event_loop(asyncio.new_event_loop())
        recorder = Recorder()
        set_mocks(recorder, project="tradestack", stack="local", preview=False)
        pulumi.runtime.test(lambda: stacks.build(parse(mine, file="Pulumi.local.yaml")) and None)()
        return recorder.registered

    with ThreadPoolExecutor(max_workers=1) as executor:
        registered = executor.submit(record).result()

    def mocked(item: MockResourceArgs) -> Any:
        return {key: rpc.unwrap_rpc_secret(value) for key, value in item.inputs.items()}

    def planned(item: PlannedResource) -> Any:
        return {
            key: value.value if isinstance(value, Secret) else value for key, value in item.inputs.items()
        }

    compared = [
        item for item in registered if item.typ != "pulumi:pulumi:Stack" and ":providers:" not in item.typ
    ]
    expected = [
        item
        for item in local_plan.resources
        if item.type != "pulumi:pulumi:Stack" and ":providers:" not in item.type
    ]
    assert len(compared) == len(expected) == 230
    by_identity = {(item.typ, item.name): mocked(item) for item in compared}
    assert {(item.type, item.name): planned(item) for item in expected} == by_identity


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("pulumi.runtime.invoke('aws:index/getRegion:getRegion', {})", "calls aws:index/getRegion:getRegion"),
        ("core.Namespace.get('x', 'kube-system')", "reads kubernetes:core/v1:Namespace 'kube-system'"),
        ("core.Namespace('x'), core.Namespace('x')", "two resources have the URN"),
    ],
)
def test_what_only_a_provider_can_answer_is_refused(
    body: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "infra").mkdir()
    program = f"import pulumi\nfrom pulumi_kubernetes.core import v1 as core\n{body}\n"
    (tmp_path / "infra" / "__main__.py").write_text(program)
    monkeypatch.setattr("infra.plan.runner.REPOSITORY", tmp_path)
    with pytest.raises(TradestackError, match=reason.replace("(", r"\(")):
        run("local")
    gc.collect()
    assert not caplog.records


def test_outputs_that_only_a_provider_knows_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "__main__.py").write_text(
        "import pulumi\nfrom pulumi_kubernetes.core import v1 as core\n"
        "made = core.Namespace('x', metadata={'name': 'x'})\n"
        "pulumi.export('name', made.metadata['name'])\npulumi.export('id', made.id)\n"
        "pulumi.export('phase', made.status['phase'])\npulumi.export('hidden', pulumi.Output.secret('s'))\n"
    )
    monkeypatch.setattr("infra.plan.runner.REPOSITORY", tmp_path)
    outputs = masked(run("local").outputs)
    assert outputs == {"name": "x", "id": "[unknown]", "phase": "[unknown]", "hidden": "[secret]"}


def test_what_only_the_provider_tells_within_an_input_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The security group that EKS makes; None in its place would be a rule without a source."""
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "__main__.py").write_text(
        "import pulumi\nimport pulumi_aws as aws\n"
        "made = aws.eks.Cluster('x', role_arn='r', vpc_config={'subnet_ids': ['a', 'b']})\n"
        "pulumi.export('group', made.vpc_config.cluster_security_group_id)\n"
    )
    monkeypatch.setattr("infra.plan.runner.REPOSITORY", tmp_path)
    planned = run("local")
    assert masked(planned.outputs) == {"group": "[unknown]"}
    assert masked(planned.resources[-1].inputs)["vpcConfig"] == {"subnetIds": ["a", "b"]}
