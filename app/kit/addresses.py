"""Where a request comes from."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def client_address(forwarded_for: str, peer: str, hops: int) -> str:
    """Address of the client.

    Each proxy appends to X-Forwarded-For where it got the request from; what stands further left comes from
    the client and may be made up. `hops` is the number of our own proxies: the gateway (1), and what stands
    before it. With fewer entries the request came from inside, and the first one counts.
    """
    entries = [entry.strip() for entry in forwarded_for.split(",") if entry.strip()]
    if not entries or hops == 0:
        return _plain(peer) or "unknown"
    return _plain(entries[-min(hops, len(entries))]) or _plain(peer) or "unknown"


def is_within(address: str, networks: list[Network]) -> bool:
    """Whether an address lies in one of the networks."""
    try:
        known = ip_address(address)
    except ValueError:
        return False
    return any(known in network for network in networks)


def parse_networks(texts: list[str]) -> list[Network]:
    """Networks from addresses and CIDR blocks; raises ValueError with the one that is neither."""
    return [ip_network(text.strip()) for text in texts]


def _plain(text: str) -> str | None:
    """An address in its one form, IPv4 in IPv6 taken out; None when it is none."""
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
