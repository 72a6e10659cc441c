"""The real scanners over faults they must find and over what they must not find."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from infra.check import checkov, kube, manifests, schemas, store, terraform, tools
from infra.check.scan import scan
from infra.check.terraform_names import type_name
from infra.errors import TradestackError
from infra.plan import Plan
from infra.policy import Finding
from infra.progress import Steps
from tests.check.bad import AWS, AWS_FINDINGS, KUBERNETES, MALFORMED, NOT_AWS_FINDINGS
from tests.policy.good import plan

pytestmark = pytest.mark.timeout(600)


def named(findings: tuple[Finding, ...]) -> set[tuple[str, str]]:
    """Check and name of the resource."""
    return {(item.id, item.resource.rsplit("::", 1)[-1]) for item in findings}


def kinds(findings: tuple[Finding, ...]) -> set[tuple[str, str]]:
    """Check and kind of the resource."""
    return {(item.id, item.resource.split("::")[2].rsplit(":", 1)[-1]) for item in findings}


def test_checkov_finds_planted_faults_in_aws(steps: Steps) -> None:
    found = checkov.scan_aws(terraform.convert(plan(AWS)), steps)
    assert named(found.findings) >= AWS_FINDINGS
    assert not named(found.findings) & NOT_AWS_FINDINGS
    assert found.passed > 0


@pytest.mark.usefixtures("loud_environment")
def test_no_configuration_of_the_user_silences_checkov(steps: Steps) -> None:
    found = checkov.scan_aws(terraform.convert(plan(AWS)), steps)
    assert named(found.findings) >= AWS_FINDINGS


def test_checkov_finds_planted_faults_in_kubernetes(steps: Steps) -> None:
    found = checkov.scan_kubernetes(manifests.make(plan(KUBERNETES)), steps)
    wanted = {"CKV_K8S_16", "CKV_K8S_19", "CKV_K8S_8", "CKV_K8S_9", "CKV_K8S_11", "CKV_K8S_14", "CKV_K8S_22"}
    assert {(id_, "Deployment") for id_ in wanted} <= kinds(found.findings)


def test_kube_score_finds_planted_faults(steps: Steps) -> None:
    found = kube.score(manifests.make(plan(KUBERNETES)), steps)
    wanted = {"container-image-tag", "container-resources", "container-security-context-privileged"}
    assert {(id_, "Deployment") for id_ in wanted} | {("service-targets-pod", "Service")} <= kinds(
        found.findings
    )


def test_objects_that_kube_score_cannot_read_are_no_pass(steps: Steps) -> None:
    with pytest.raises(TradestackError, match="kube-score ended with exit code 1"):
        kube.score(manifests.make(plan(MALFORMED)), steps)


def test_kubeconform_finds_wrong_fields_types_and_kinds(steps: Steps) -> None:
    found = kube.conform(manifests.make(plan(MALFORMED)), steps)
    assert kinds(found.findings) == {
        ("schema", "Deployment"),
        ("schema", "Service"),
        ("schema-missing", "Strange"),
    }
    messages = " ".join(item.message for item in found.findings)
    assert "imagePullPoliciy" in messages
    assert "/spec/ports/0/port" in messages


def test_the_local_stack_has_the_form_of_its_kinds(local_plan: Plan, steps: Steps) -> None:
    objects = manifests.make(local_plan)
    found = kube.conform(objects, steps)
    assert found.findings == ()
    assert found.passed == len(objects.files) > 60


CUSTOM = {
    "externalsecret-external-secrets-v1.json": ("spec", "refreshInterval"),
    "secretstore-external-secrets-v1.json": ("spec", "provider"),
    "clusterissuer-cert-manager-v1.json": ("spec", "acme"),
    "targetgroupbinding-elbv2-v1beta1.json": ("spec", "targetGroupARN"),
    "scaledobject-keda-v1alpha1.json": ("spec", "triggers"),
    "httproute-gateway-v1.json": ("spec", "rules"),
    "backendtrafficpolicy-gateway-v1alpha1.json": ("spec", "rateLimit"),
}


@pytest.mark.parametrize("name", CUSTOM)
def test_custom_resources_have_strict_schemas(name: str, steps: Steps) -> None:
    schema = json.loads((schemas.folder(steps) / name).read_text())
    section, key = CUSTOM[name]
    properties = schema["properties"][section]
    assert key in properties["properties"]
    assert properties["additionalProperties"] is False


def test_a_checker_that_cannot_run_is_a_failure(
    no_results: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    def broken(name: str, steps: Steps) -> Path:
        raise TradestackError(f"{name} cannot be built")

    monkeypatch.setattr(tools, "program", broken)
    found = {item.checker: item for item in scan(plan(KUBERNETES), steps)}
    for checker in ("kube-score", "kubeconform"):
        assert [(item.id, item.message) for item in found[checker].findings] == [
            ("checker-failed", f"{checker} cannot be built")
        ]
    assert [item.name for item in no_results.iterdir() if not item.name.startswith("checkov")] == []


def test_what_checkov_cannot_read_is_a_failure(
    no_results: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    original = terraform.convert(plan(AWS))
    half = dict(original.document)
    half["planned_values"] = {"root_module": {"resources": []}}
    monkeypatch.setattr(terraform, "convert", lambda _: terraform.TerraformPlan(half, original.urns))
    (found,) = [item for item in scan(plan(AWS), steps) if item.checker == "checkov"]
    assert [item.id for item in found.findings] == ["checker-failed"]
    assert "checkov read 0 of" in found.findings[0].message


def test_what_was_scanned_before_is_not_scanned_again(
    no_results: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    first = scan(plan(AWS), steps)
    monkeypatch.setattr(checkov, "scan_aws", lambda *_: pytest.fail("scanned again"))
    assert scan(plan(AWS), steps) == first
    with pytest.raises(pytest.fail.Exception):
        scan(plan({**AWS, ("aws:kms/key:Key", "another"): {}}), steps)


def test_only_the_newest_results_are_kept(
    no_results: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    monkeypatch.setattr("infra.check.scan._KEPT_RESULTS", 2)
    for number in range(4):
        path = no_results / f"checkov-{number}.json"
        path.write_text("{}")
        os.utime(path, (number, number))
    scan(plan({("aws:kms/key:Key", "data"): {}}), steps)
    names = {path.name for path in no_results.iterdir()}
    assert len(names) == 2
    assert "checkov-3.json" in names


def test_a_module_that_is_not_the_pinned_one_is_refused(tmp_path: Path, steps: Steps) -> None:
    source = schemas.Source("sigs.k8s.io/yaml", "v1.6.0", "h1:another=")
    with pytest.raises(TradestackError, match=r"sigs\.k8s\.io/yaml v1\.6\.0 has the checksum"):
        schemas._fetch(tools.go_tool(steps), source, tmp_path)


def test_a_killed_install_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "cache_dir", lambda: tmp_path)
    attempts = []

    def make(folder: Path) -> None:
        attempts.append(folder)
        if len(attempts) == 1:
            raise TradestackError("interrupted")

    with pytest.raises(TradestackError):
        store.ensure("tool", "0", make)
    assert store.ensure("tool", "0", make) == store.ensure("tool", "0", make)
    assert len(attempts) == 2


UNKNOWN_TO_CHECKOV = {"aws_sqs_redrive_allow_policy"}
"""Types of the stacks for which checkov has no check and which it never mentions."""


def test_checkov_knows_every_type_of_every_stack(cloud_plans: list[Plan], steps: Steps) -> None:
    """A name that Terraform does not have would be read, and pass without a check."""
    package = checkov.program(steps).parent.parent / "lib"
    known = subprocess.run(
        [
            "grep",
            "-rhoE",
            "aws_[a-z0-9_]+",
            "--include=*.py",
            "--include=*.yaml",
            "--include=*.json",
            package,
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    types = {item.type for found in cloud_plans for item in found.resources if item.type.startswith("aws:")}
    names = {type_name(type_) for type_ in types | {type_ for type_, _ in AWS}}
    assert names - set(known) <= UNKNOWN_TO_CHECKOV
