"""What a load may be aimed at."""

import socket
import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from infra.cluster.addresses import conflicts, reached_networks
from infra.cluster.instance import instances
from infra.errors import TradestackError

_CLUSTER = (".svc", ".cluster.local")
"""Ends of names that only the DNS of a Kubernetes cluster knows."""
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def check(url: str, schemes: tuple[str, ...], *, allow_remote: bool) -> SplitResult:
    """The parts of a URL that may be loaded.

    Raises:
        TradestackError: it is no URL of one of the schemes, has no address, or is neither on this machine
            nor inside a cluster and `allow_remote` is not set.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        raise TradestackError(f"{url}: {error}") from None
    if parts.scheme not in schemes or not parts.hostname or parts.username is not None:
        raise TradestackError(f"{url!r} is not a URL of the form {schemes[0]}://HOST[:PORT]/…")
    if any(not "!" <= letter <= "~" for letter in url):
        raise TradestackError(f"{url!r} has characters that a URL has to write as %XX")
    if not (allow_remote or _is_near(parts.hostname, port)):
        raise TradestackError(
            f"{parts.hostname} is neither this machine nor inside a cluster",
            hint="A load hurts whoever does not expect it; --allow-remote says that you may.",
        )
    return parts


def trusted(urls: list[str], ca: Path | None) -> ssl.SSLContext | None:
    """Who is believed to be the server of these URLs: what the system trusts, or the certificates in `ca`.

    None where no URL is secure.

    Raises:
        TradestackError: `ca` cannot be read, holds no certificate, or is given where no URL is secure.
    """
    if not any(urlsplit(url).scheme in ("https", "wss") for url in urls):
        if ca is not None:
            raise TradestackError(f"--ca {ca} is for https and wss, and {urls[0]} is neither")
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise TradestackError(f"--ca {ca} holds no certificates in PEM form: {error}") from None


def check_sources(parts: SplitResult) -> None:
    """Refuse a target that connections from other loopback addresses than 127.0.0.1 do not reach.

    Raises:
        TradestackError: the target is not an address of 127.0.0.0/8.
    """
    found = _addresses(parts.hostname or "", parts.port)
    if not all(address.version == 4 and address.is_loopback for address in found):
        raise TradestackError(
            f"--clients-per-address takes addresses of 127.0.0.0/8, and {parts.hostname} is not one of them"
        )


def _is_near(host: str, port: int | None) -> bool:
    if host.rstrip(".").endswith(_CLUSTER):
        return True
    return all(address.is_loopback or _is_of_a_cluster(address) for address in _addresses(host, port))


def _addresses(host: str, port: int | None) -> list[IPv4Address | IPv6Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TradestackError(f"{host} has no address: {error.strerror}") from None
    return [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


def _is_of_a_cluster(address: IPv4Address | IPv6Address) -> bool:
    """Whether an embedded cluster of this machine has the address now, for its node or a pod.

    A cluster that is down keeps its address plan, but what is sent there then leaves the machine.
    """
    links = {name for _, name in socket.if_nameindex()}
    for instance in instances():
        plan = instance.kept_addresses()
        if plan is None or instance.link not in links:
            continue
        if address == plan.node or address in plan.pods:
            return not conflicts(plan, reached_networks(except_link=instance.link))
    return False
