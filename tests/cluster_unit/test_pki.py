"""Certificates say who one is, authorities and signing keys stay the same, private keys stay private."""

from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.cluster.pki import Authority, signing_key


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    first = Authority(tmp_path, "ca").pair.certificate.read_bytes()
    assert Authority(tmp_path, "ca").pair.certificate.read_bytes() == first


def test_a_server_certificate_is_trusted_for_its_hosts(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("api", "api", hosts=["kubernetes.default", IPv4Address("10.96.0.1")])
    leaf = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kubernetes.default"]
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("10.96.0.1")]
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.pair.certificate.read_bytes()))


def test_groups_are_organisations_and_clients_are_no_servers(tmp_path: Path) -> None:
    pair = Authority(tmp_path, "ca").issue("node", "system:node:a", groups=["system:nodes"])
    leaf = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    assert leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_kept_certificates_and_signing_keys_do_not_change(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    first = authority.kept("metrics", "metrics", hosts=["metrics"]).certificate.read_bytes()
    assert authority.kept("metrics", "metrics", hosts=["metrics"]).certificate.read_bytes() == first
    key = signing_key(tmp_path, "tokens").key.read_bytes()
    assert signing_key(tmp_path, "tokens").key.read_bytes() == key


def test_private_keys_are_private(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki", "ca")
    authority.issue("admin", "admin")
    signing_key(tmp_path / "pki", "tokens")
    keys = list((tmp_path / "pki").glob("*.key"))
    assert len(keys) == 3
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys)
