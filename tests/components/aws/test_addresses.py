"""Subnets fit, never overlap and never move."""

import ipaddress
from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.aws.addresses import Layout, Subnet, layout

_ZONES = [f"eu-west-1{letter}" for letter in "abcdef"]

_zones = st.lists(st.sampled_from(_ZONES), min_size=1, max_size=6, unique=True)
_prefixes = st.integers(16, 19)


@st.composite
def _cidrs(draw: st.DrawFn) -> str:
    prefix = draw(_prefixes)
    home = draw(st.sampled_from(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]))
    blocks = 1 << (prefix - ipaddress.IPv4Network(home).prefixlen)
    index = draw(st.integers(0, blocks - 1))
    start = int(ipaddress.IPv4Network(home).network_address) + index * (1 << (32 - prefix))
    return f"{ipaddress.IPv4Address(start)}/{prefix}"


def _by_name(found: Layout) -> dict[str, Subnet]:
    return {subnet.name: subnet for subnet in found.subnets}


@given(_cidrs(), _zones)
def test_subnets_lie_in_the_range_and_never_overlap(cidr: str, zones: list[str]) -> None:
    found = [ipaddress.IPv4Network(item.cidr) for item in layout(cidr, zones).subnets]
    assert len(found) == 3 * len(zones)
    assert all(item.subnet_of(ipaddress.IPv4Network(cidr)) for item in found)
    assert not any(one.overlaps(other) for one, other in combinations(found, 2))


@given(_cidrs(), _zones, st.randoms())
def test_no_subnet_moves_when_zones_come_go_or_change_their_order(
    cidr: str, zones: list[str], random: Random
) -> None:
    everything = _by_name(layout(cidr, _ZONES))
    shuffled = list(zones)
    random.shuffle(shuffled)
    some = _by_name(layout(cidr, shuffled))
    assert some == {name: everything[name] for name in some}


@given(_zones)
def test_no_subnet_moves_when_a_range_is_added_and_only_private_ones_come(zones: list[str]) -> None:
    before = layout("10.20.0.0/16", zones)
    after = layout("10.20.0.0/16", zones, ["100.64.0.0/16", "10.21.0.0/17"])
    assert _by_name(before).items() <= _by_name(after).items()
    assert len(_by_name(after)) == len(after.subnets)
    assert after.public == before.public
    assert after.data == before.data
    assert len(after.private) == 3 * len(zones)


@given(_cidrs(), _zones)
def test_private_subnets_are_large_and_the_others_fit_a_load_balancer(cidr: str, zones: list[str]) -> None:
    found = layout(cidr, zones)
    size = ipaddress.IPv4Network(cidr).num_addresses
    assert {ipaddress.IPv4Network(item.cidr).num_addresses for item in found.private} == {size // 8}
    small = {ipaddress.IPv4Network(item.cidr) for item in (*found.public, *found.data)}
    assert all(item.prefixlen <= 27 for item in small)
    assert all(item.subnet_of(ipaddress.IPv4Network(found.public_part)) for item in _nets(found.public))
    assert not any(item.overlaps(ipaddress.IPv4Network(found.public_part)) for item in _nets(found.data))


def _nets(subnets: tuple[Subnet, ...]) -> list[ipaddress.IPv4Network]:
    return [ipaddress.IPv4Network(item.cidr) for item in subnets]


def test_the_addresses_of_a_known_range() -> None:
    """Deployed networks have these; a change here would replace their subnets."""
    found = _by_name(layout("10.20.0.0/16", ["us-east-1a", "us-east-1f"], ["100.64.0.0/16"]))
    assert {name: subnet.cidr for name, subnet in found.items()} == {
        "public-a": "10.20.192.0/24",
        "public-f": "10.20.197.0/24",
        "private-a": "10.20.0.0/19",
        "private-f": "10.20.160.0/19",
        "private-a-2": "100.64.0.0/19",
        "private-f-2": "100.64.160.0/19",
        "data-a": "10.20.224.0/24",
        "data-f": "10.20.229.0/24",
    }
    assert found["data-f"].zone == "us-east-1f"


@pytest.mark.parametrize(
    ("cidr", "zones", "more", "message"),
    [
        ("10.20.0.0", ["us-east-1a"], [], "range 10.20.0.0: from /16 to /19"),
        ("10.20.0.1/16", ["us-east-1a"], [], "range 10.20.0.1/16: not an IPv4 range"),
        ("10.0.0.0/8", ["us-east-1a"], [], "range 10.0.0.0/8: from /16 to /19"),
        ("10.20.0.0/20", ["us-east-1a"], [], "range 10.20.0.0/20: from /16 to /19"),
        ("8.8.0.0/16", ["us-east-1a"], [], "range 8.8.0.0/16: not private; allowed are"),
        ("10.20.0.0/16", [], [], "zones: at least one"),
        ("10.20.0.0/16", ["us-east-1a", "us-east-1a"], [], "zone 'us-east-1a': given twice"),
        ("10.20.0.0/16", ["us-east-1"], [], "zone 'us-east-1': a region and a letter from a to f"),
        ("10.20.0.0/16", ["us-east-1g"], [], "zone 'us-east-1g': a region and a letter from a to f"),
        ("10.20.0.0/16", [""], [], "zone '': a region and a letter"),
        ("10.20.0.0/16", ["us-east-1-bos-1a"], [], "zone 'us-east-1-bos-1a': a region and a letter"),
        ("10.20.0.0/16", ["us-east-1a", "us-west-2b"], [], "zone 'us-west-2b': not in the region us-east-1"),
        ("10.20.0.0/16", ["us-east-1a"], ["10.20.128.0/17"], "range 10.20.128.0/17: overlaps 10.20.0.0/16"),
        ("10.20.0.0/16", ["us-east-1a"], ["172.16.0.0/16"], "range 172.16.0.0/16: must lie in 10.0.0.0/8"),
    ],
)
def test_what_cannot_be_laid_out_is_refused_by_name(
    cidr: str, zones: list[str], more: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        layout(cidr, zones, more)
