"""Keys and certificates of an instance: its authorities are kept, what they sign is made at each start."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AUTHORITY_DAYS = 20 * 365
_LEAF_DAYS = 5 * 365
_CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in the folder `folder`; made at first use, then kept."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.pair = _pair(folder, name)
        """The authority's own certificate and key."""
        if not self.pair.certificate.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = ec.generate_private_key(ec.SECP256R1())
            subject = _subject(f"tradestack {name}", ())
            builder = _builder(subject, subject, key.public_key(), _AUTHORITY_DAYS)
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            builder = builder.add_extension(_key_usage(authority=True), critical=True)
            write_private(self.pair.key, _key_pem(key))
            _write(self.pair.certificate, builder.sign(key, hashes.SHA256()))
        self._certificate = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())
        self._key = load_key(self.pair.key)

    def issue(
        self,
        file: str,
        common_name: str,
        *,
        groups: Iterable[str] = (),
        hosts: Iterable[str | IPv4Address] = (),
        days: int = _LEAF_DAYS,
    ) -> Pair:
        """A new certificate for a client, and for a server if it has `hosts` (DNS names and addresses).

        `groups` become the organisations, which Kubernetes reads as the user's groups.
        """
        pair = _pair(self._folder, file)
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [
            x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host) for host in hosts
        ]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if names else [])]
        subject = _subject(common_name, groups)
        builder = _builder(subject, self._certificate.subject, key.public_key(), days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(authority=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        write_private(pair.key, _key_pem(key))
        _write(pair.certificate, builder.sign(self._key, hashes.SHA256()))
        return pair

    def kept(self, file: str, common_name: str, *, hosts: Iterable[str | IPv4Address]) -> Pair:
        """The certificate issued before under `file`, or a new one."""
        pair = _pair(self._folder, file)
        return pair if pair.certificate.exists() else self.issue(file, common_name, hosts=hosts)


def signing_key(folder: Path, name: str) -> Pair:
    """A key pair for signing tokens, made at first use, then kept; `certificate` holds the public key."""
    pair = Pair(folder / f"{name}.pub", folder / f"{name}.key")
    if not pair.certificate.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(pair.key, _key_pem(key))
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        pair.certificate.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return pair


def load_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """The private key in `file`.

    Raises:
        TypeError: it is of another kind than the ones made here.
    """
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{file}: not an elliptic curve key")
    return key


def write_private(file: Path, content: bytes) -> None:
    """Write `file` so that nobody else can ever read it, and so that it is never seen half written."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as sink:
        sink.write(content)
    partial.rename(file)


def _pair(folder: Path, name: str) -> Pair:
    return Pair(folder / f"{name}.crt", folder / f"{name}.key")


def _subject(common_name: str, groups: Iterable[str]) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(file: Path, certificate: x509.Certificate) -> None:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
