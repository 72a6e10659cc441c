"""The certificate of a local stack's edge, signed by an authority that is kept for each cluster."""

import base64
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from infra.cluster.pki import Authority, Pair
from infra.progress import Steps
from infra.render.kubectl import Kubectl, as_list

SECRET = "edge-certificate"  # noqa: S105 - the name of a Secret
NAMESPACE = "envoy-gateway-system"
"""Where the Secret is; Gateways of `CLIENTS` may refer to it."""
CLIENTS = "trading-system"

_AUTHORITY, _LEAF = "ca", "edge"
_FOLDER = "edge"
_VALID_DAYS = 365
"""Apple's limit for such certificates is 825 days."""
_RENEWED_BEFORE = timedelta(days=30)
_ALWAYS = ("localhost", "127.0.0.1")
_MANAGER = "tradestack-addons"


def authority_path(state: Path) -> Path:
    """Where the authority's certificate is, as PEM, for a cluster with its state in `state`."""
    return state / _FOLDER / f"{_AUTHORITY}.crt"


def issue(state: Path, hosts: Iterable[str]) -> Pair:
    """The edge's certificate for `hosts` (names and IPv4 addresses), `localhost` and 127.0.0.1.

    The one that is there is kept, as long as it has these names, is the authority's and is valid for 30 days
    more. Key and folder are the owner's alone.
    """
    authority = Authority(state / _FOLDER, _AUTHORITY)
    names = [_name(host) for host in sorted({*hosts, *_ALWAYS})]
    pair = Pair(state / _FOLDER / f"{_LEAF}.crt", state / _FOLDER / f"{_LEAF}.key")
    if pair.certificate.exists() and _serves(pair, authority, names):
        return pair
    return authority.issue(_LEAF, "tradestack edge", hosts=names, days=_VALID_DAYS)


def ensure(kubectl: Kubectl, state: Path, hosts: Iterable[str], steps: Steps) -> None:
    """Have the edge's certificate in the cluster, for the stacks' Gateways to refer to.

    Raises:
        CommandFailed: the cluster refused it.
    """
    wanted = _objects(state, issue(state, hosts))
    live = {item["kind"]: item for item in kubectl.list("-f", "-", stdin=as_list(wanted))}
    if all(_holds(live.get(item["kind"]), item) for item in wanted):
        return
    with steps.step("Certificate of the edge", estimate_s=1):
        flags = ("--server-side", "--force-conflicts", f"--field-manager={_MANAGER}")
        kubectl("apply", *flags, "-f", "-", stdin=as_list(wanted))


def _objects(state: Path, pair: Pair) -> list[dict[str, Any]]:
    files = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority_path(state)}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": NAMESPACE},
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(file.read_bytes()).decode() for key, file in files.items()},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "ReferenceGrant",
            "metadata": {"name": SECRET, "namespace": NAMESPACE},
            "spec": {
                "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": CLIENTS}],
                "to": [{"group": "", "kind": "Secret", "name": SECRET}],
            },
        },
    ]


def _holds(live: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    return live is not None and all(
        live.get(key) == wanted[key] for key in wanted if key not in {"apiVersion", "metadata"}
    )


def _name(host: str) -> str | IPv4Address:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return address if isinstance(address, IPv4Address) else host


def _serves(pair: Pair, authority: Authority, names: Sequence[str | IPv4Address]) -> bool:
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    given = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = {*given.get_values_for_type(x509.DNSName), *given.get_values_for_type(x509.IPAddress)}
    try:
        certificate.verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority.pair.certificate.read_bytes())
        )
    except (InvalidSignature, ValueError):
        return False
    lasts = certificate.not_valid_after_utc - datetime.now(UTC) > _RENEWED_BEFORE
    return lasts and pair.key.exists() and known == set(names)
