"""How the addresses of a VPC are divided: a pure function whose answers never move.

A range is cut into eight equal parts. Parts 0 to 5 are the private subnets of the zones `a` to `f`, large
because every pod takes an address of its node's subnet. Part 6 holds the public subnets and part 7 the data
subnets, each cut into 32 small ones of which the zones take the first six. A subnet's place follows from its
tier and its zone's letter alone: another zone, another order of zones or another range moves nothing.

For `10.20.0.0/16`: private `a` is `10.20.0.0/19` (8,187 usable addresses), public `a` is `10.20.192.0/24`,
data `a` is `10.20.224.0/24` (251 each). AWS keeps five addresses of every subnet.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tier = Literal["public", "private", "data"]

_LETTERS = "abcdef"
_PART_BITS = 3
_SMALL_BITS = 8
_PUBLIC_PART, _DATA_PART = 6, 7
# /16 is the largest range that a VPC takes; in one smaller than /19 a public subnet would be smaller than
# the /27 that a load balancer asks for.
_LONGEST, _SHORTEST = 19, 16
_SHARED = ipaddress.IPv4Network("100.64.0.0/10")
_PRIVATE = tuple(ipaddress.IPv4Network(item) for item in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


@dataclass(frozen=True)
class Subnet:
    """One subnet of the layout."""

    name: str
    """Tier, zone's letter and, from the second range on, the range's number: `private-a`, `private-a-2`."""
    tier: Tier
    """Which traffic may reach it."""
    zone: str
    """Availability zone."""
    cidr: str
    """Its addresses."""


@dataclass(frozen=True)
class Layout:
    """Subnets of a VPC by tier; within a tier in the order of the ranges, then of the zones."""

    public: tuple[Subnet, ...]
    """Load balancers and NAT gateways."""
    private: tuple[Subnet, ...]
    """Nodes, pods, functions and interface endpoints; one in each zone for every range."""
    data: tuple[Subnet, ...]
    """Databases, caches and brokers."""
    public_part: str
    """Everything that is or will be a public subnet."""

    @property
    def subnets(self) -> tuple[Subnet, ...]:
        """All of them."""
        return (*self.public, *self.private, *self.data)


def layout(cidr: str, zones: Sequence[str], more: Sequence[str] = ()) -> Layout:
    """Subnets of `cidr` for `zones`, and further private ones from the ranges `more`, for when pods run out.

    Raises:
        ValueError: a range is malformed, not private, not `/16` to `/19`, overlaps another or cannot be
            joined with the first; a zone is missing, repeated, or does not end in `a` to `f`.
    """
    first, *others = _ranges([cidr, *more])
    slots = _slots(zones)
    private = [
        Subnet(f"private-{_LETTERS[slot]}{suffix}", "private", zone, str(_part(block, slot)))
        for suffix, block in [("", first), *((f"-{number}", item) for number, item in enumerate(others, 2))]
        for zone, slot in slots.items()
    ]
    return Layout(
        public=_small("public", _part(first, _PUBLIC_PART), slots),
        private=tuple(private),
        data=_small("data", _part(first, _DATA_PART), slots),
        public_part=str(_part(first, _PUBLIC_PART)),
    )


def _small(tier: Tier, part: ipaddress.IPv4Network, slots: dict[str, int]) -> tuple[Subnet, ...]:
    blocks = list(part.subnets(prefixlen_diff=_SMALL_BITS - _PART_BITS))
    return tuple(
        Subnet(f"{tier}-{_LETTERS[slot]}", tier, zone, str(blocks[slot])) for zone, slot in slots.items()
    )


def _part(block: ipaddress.IPv4Network, number: int) -> ipaddress.IPv4Network:
    return list(block.subnets(prefixlen_diff=_PART_BITS))[number]


def _slots(zones: Sequence[str]) -> dict[str, int]:
    if not zones:
        raise ValueError("zones: at least one is needed")
    found: dict[str, int] = {}
    for zone in zones:
        # A local zone is called us-east-1-bos-1a; its letter would collide with that of an ordinary zone.
        if zone.count("-") != 2 or zone[-1:] not in _LETTERS or not zone[-2:-1].isdigit():
            raise ValueError(
                f"zone '{zone}': a region and a letter from a to f are needed, such as us-east-1a"
            )
        if zone in found:
            raise ValueError(f"zone '{zone}': given twice")
        if zone[:-1] != zones[0][:-1]:
            raise ValueError(f"zone '{zone}': not in the region {zones[0][:-1]} of the first zone")
        found[zone] = _LETTERS.index(zone[-1])
    return found


def _ranges(cidrs: Sequence[str]) -> list[ipaddress.IPv4Network]:
    found: list[ipaddress.IPv4Network] = []
    for cidr in cidrs:
        block = _range(cidr)
        for other in found:
            if block.overlaps(other):
                raise ValueError(f"range {cidr}: overlaps {other}")
        # AWS refuses to join addresses of two of the three private blocks.
        if found and not block.subnet_of(_SHARED) and _home(block) != _home(found[0]):
            raise ValueError(
                f"range {cidr}: must lie in {_home(found[0])}, as {found[0]} does, or in {_SHARED}"
            )
        found.append(block)
    return found


def _range(cidr: str) -> ipaddress.IPv4Network:
    try:
        block = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise ValueError(f"range {cidr}: not an IPv4 range such as 10.20.0.0/16 ({error})") from error
    if not _SHORTEST <= block.prefixlen <= _LONGEST:
        raise ValueError(f"range {cidr}: from /{_SHORTEST} to /{_LONGEST}")
    _home(block)
    return block


def _home(block: ipaddress.IPv4Network) -> ipaddress.IPv4Network:
    for home in (*_PRIVATE, _SHARED):
        if block.subnet_of(home):
            return home
    allowed = ", ".join(str(home) for home in (*_PRIVATE, _SHARED))
    raise ValueError(f"range {block}: not private; allowed are ranges within {allowed}")
