"""The add-ons' manifests, their definitions, and the certificate of the edge."""

import json
import stat
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from infra.cluster import pki
from infra.cluster.addons import platform
from infra.cluster.addons.platform import certificate, definitions
from infra.errors import TradestackError
from infra.images import catalog
from infra.progress import Steps

QUIET = Steps(quiet=True)
DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.com"},
    "spec": {},
}


@pytest.fixture(autouse=True)
def _definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ones come from the module proxy; the tests on the node have them."""
    monkeypatch.setattr(definitions, "objects", lambda addon, steps: [json.loads(json.dumps(DEFINITION))])


def pods(addon: platform.Addon) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (item["metadata"]["name"], item["spec"]["template"]["spec"])
        for item in platform.render(addon, QUIET)
        if item["kind"] in {"Deployment", "Job"}
    ]


@pytest.mark.parametrize("addon", platform.ADDONS, ids=lambda addon: addon.name)
def test_every_pod_runs_our_images_within_limits_and_without_rights(addon: platform.Addon) -> None:
    ours = {catalog.reference(name) for name in addon.images}
    assert pods(addon)
    for name, pod in pods(addon):
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            assert container["image"] in ours, name
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name


@pytest.mark.parametrize("addon", platform.ADDONS, ids=lambda addon: addon.name)
def test_namespaces_come_first_and_refuse_privileged_pods(addon: platform.Addon) -> None:
    kinds = [item["kind"] for item in platform.render(addon, QUIET)]
    assert kinds[:2] == ["CustomResourceDefinition", "Namespace"]
    namespace = platform.render(addon, QUIET)[1]["metadata"]
    assert namespace["name"] == addon.namespace
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


class Recorder:
    """A cluster that has what was applied to it."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.applied = 0

    def __call__(self, *words: str, stdin: str | None = None, timeout: float = 0) -> str:
        if words[0] == "apply" and stdin is not None:
            self.applied += 1
            for item in json.loads(stdin)["items"]:
                metadata = item["metadata"]
                available = {"type": "Available", "status": "True"}
                status = {"conditions": [available], "observedGeneration": 1, "updatedReplicas": 1}
                self.objects[item["kind"], metadata.get("namespace", ""), metadata["name"]] = {
                    **item,
                    "metadata": {**metadata, "generation": 1},
                    "status": status,
                }
        return ""

    def list(self, *words: str, stdin: str | None = None) -> list[dict[str, Any]]:
        if stdin is not None:
            wanted = json.loads(stdin)["items"]
            keys = [(i["kind"], i["metadata"].get("namespace", ""), i["metadata"]["name"]) for i in wanted]
            return [self.objects[key] for key in keys if key in self.objects]
        return [item for (kind, _, _), item in self.objects.items() if kind in {"Deployment", "APIService"}]


def test_what_is_so_already_is_not_applied_again_and_what_differs_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Recorder()
    platform.ensure(cluster, QUIET)  # type: ignore[arg-type]
    first = cluster.applied
    assert first == 2 * len(platform.ADDONS)
    platform.ensure(cluster, QUIET)  # type: ignore[arg-type]
    assert cluster.applied == first
    reference = catalog.reference

    def changed(name: str) -> str:
        return f"{reference(name)}-new" if name == "keda-operator" else reference(name)

    monkeypatch.setattr(catalog, "reference", changed)
    platform.ensure(cluster, QUIET)  # type: ignore[arg-type]
    assert cluster.applied == first + 2
    deployment = cluster.objects["Deployment", "keda", "keda-operator"]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"].endswith("-new")


def test_a_missing_deployment_is_made_again() -> None:
    cluster = Recorder()
    platform.ensure(cluster, QUIET)  # type: ignore[arg-type]
    first = cluster.applied
    del cluster.objects["Deployment", "envoy-gateway-system", "envoy-gateway"]
    platform.ensure(cluster, QUIET)  # type: ignore[arg-type]
    assert cluster.applied == first + 2
    assert ("Deployment", "envoy-gateway-system", "envoy-gateway") in cluster.objects


def test_an_installation_that_is_not_ours_is_left_alone() -> None:
    cluster = Recorder()
    metadata = {"name": "keda-operator", "namespace": "keda", "generation": 1}
    cluster.objects["Deployment", "keda", "keda-operator"] = {"kind": "Deployment", "metadata": metadata}
    with pytest.raises(
        TradestackError, match="Deployment keda-operator in keda that Tradestack did not make"
    ):
        platform.ensure(cluster, QUIET)  # type: ignore[arg-type]
    assert cluster.applied == 0


def test_metrics_that_another_installation_answers_are_not_taken_over() -> None:
    cluster = Recorder()
    name = "v1beta1.external.metrics.k8s.io"
    cluster.objects["APIService", "", name] = {"kind": "APIService", "metadata": {"name": name}}
    with pytest.raises(TradestackError, match=f"APIService {name} that Tradestack did not make"):
        platform.ensure(cluster, QUIET)  # type: ignore[arg-type]
    assert cluster.applied == 0


def test_definitions_lose_their_descriptions_but_no_property_of_that_name() -> None:
    schema = {
        "description": "Text.",
        "properties": {
            "description": {"type": "string", "description": "Text."},
            "list": {
                "items": {"description": "Text.", "type": "object"},
                "anyOf": [{"description": "Text."}],
            },
        },
    }
    assert definitions.without_descriptions(schema) == {
        "properties": {
            "description": {"type": "string"},
            "list": {"items": {"type": "object"}, "anyOf": [{}]},
        }
    }


def test_a_json_patch_adds_and_removes() -> None:
    document: dict[str, Any] = {"a": [{"required": ["x"]}], "b/c": {"gone": 1}}
    definitions.patched(
        document,
        [
            {"op": "add", "path": "/a/0/required/-", "value": "y"},
            {"op": "remove", "path": "/b~1c/gone"},
            {"op": "add", "path": "/b~1c/new", "value": 2},
        ],
    )
    assert document == {"a": [{"required": ["x", "y"]}], "b/c": {"new": 2}}
    with pytest.raises(TradestackError, match="there is no /nowhere/x"):
        definitions.patched(document, [{"op": "add", "path": "/nowhere/x", "value": 1}])
    with pytest.raises(TradestackError, match="replace at /a is not supported"):
        definitions.patched(document, [{"op": "replace", "path": "/a", "value": 1}])


def leaf(pair: pki.Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def test_the_edge_has_a_certificate_of_its_own_authority(tmp_path: Path) -> None:
    pair = certificate.issue(tmp_path, ["172.30.0.2", "trade.example"])
    authority = x509.load_pem_x509_certificate(certificate.authority_path(tmp_path).read_bytes())
    leaf(pair).verify_directly_issued_by(authority)
    names = leaf(pair).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"trade.example", "localhost"}
    assert {str(item) for item in names.get_values_for_type(x509.IPAddress)} == {"172.30.0.2", "127.0.0.1"}
    assert leaf(pair).not_valid_after_utc - datetime.now(UTC) < timedelta(days=366)
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(pair.key.parent.stat().st_mode) == 0o700


def test_the_certificate_is_kept_until_names_or_time_ask_for_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = leaf(certificate.issue(tmp_path, ["a.example"])).serial_number
    assert leaf(certificate.issue(tmp_path, ["a.example"])).serial_number == first
    authority = certificate.authority_path(tmp_path).read_bytes()
    other = leaf(certificate.issue(tmp_path, ["b.example"])).serial_number
    assert other != first

    monkeypatch.setattr(certificate, "_VALID_DAYS", 29)
    assert leaf(certificate.issue(tmp_path, ["b.example"])).serial_number == other
    short = leaf(certificate.issue(tmp_path, ["c.example"])).serial_number
    assert leaf(certificate.issue(tmp_path, ["c.example"])).serial_number != short
    assert certificate.authority_path(tmp_path).read_bytes() == authority


def test_a_certificate_of_a_lost_authority_is_replaced(tmp_path: Path) -> None:
    first = leaf(certificate.issue(tmp_path, [])).serial_number
    for file in certificate.authority_path(tmp_path).parent.glob("ca.*"):
        file.unlink()
    assert leaf(certificate.issue(tmp_path, [])).serial_number != first


def test_the_cluster_gets_the_certificate_once(tmp_path: Path) -> None:
    cluster = Recorder()
    for _ in range(2):
        certificate.ensure(cluster, tmp_path, ["a.example"], QUIET)  # type: ignore[arg-type]
    assert cluster.applied == 1
    secret = cluster.objects["Secret", "envoy-gateway-system", "edge-certificate"]
    assert secret["type"] == "kubernetes.io/tls"
    assert set(secret["data"]) == {"tls.crt", "tls.key", "ca.crt"}
    grant = cluster.objects["ReferenceGrant", "envoy-gateway-system", "edge-certificate"]["spec"]
    assert grant["from"][0]["namespace"] == "trading-system"
    certificate.ensure(cluster, tmp_path, ["b.example"], QUIET)  # type: ignore[arg-type]
    assert cluster.applied == 2
