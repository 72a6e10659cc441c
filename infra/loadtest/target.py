"""What a load may be aimed at."""

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

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


def _is_near(host: str, port: int | None) -> bool:
    if host.rstrip(".").endswith(_CLUSTER):
        return True
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TradestackError(f"{host} has no address: {error.strerror}") from None
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
