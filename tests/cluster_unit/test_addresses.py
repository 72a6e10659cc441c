"""Address plans never meet each other or what the machine reaches."""

from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cluster import addresses
from infra.cluster.addresses import AddressPlan, allocate, conflicts
from infra.errors import TradestackError


def test_the_first_plan_is_the_lowest() -> None:
    plan = allocate([], [])
    assert (plan.slot, plan.node) == (0, IPv4Address("10.98.0.2"))


def test_slots_of_other_instances_are_left_alone() -> None:
    assert allocate([0, 1, 3], []).slot == 2


@pytest.mark.parametrize("route", ["10.98.0.0/30", "10.97.0.128/25", "10.96.0.7/32"])
def test_any_overlap_moves_the_plan(route: str) -> None:
    assert allocate([], [IPv4Network(route)]).slot == 1


def test_a_machine_that_routes_everything_is_refused_with_the_ranges() -> None:
    with pytest.raises(TradestackError, match=r"10\.96\.0\.0/16, 10\.97\.0\.0/16 and 10\.98\.0\.0/16"):
        allocate([], [IPv4Network("10.0.0.0/8")])


@given(st.sets(st.integers(0, 255), min_size=2, max_size=5))
def test_no_two_plans_overlap(slots: set[int]) -> None:
    for one, other in combinations(map(AddressPlan, slots), 2):
        assert not conflicts(one, other.networks)


@given(st.integers(0, 255))
def test_every_address_is_inside_its_network(slot: int) -> None:
    plan = AddressPlan(slot)
    assert plan.host in plan.link
    assert plan.node in plan.link
    assert {plan.api, plan.dns} <= set(plan.services.hosts())
    assert plan.host != plan.node


def test_routes_are_read_without_default_loopback_and_own_link(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = """[
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "192.0.2.0/24", "dev": "eth0"},
        {"dst": "198.51.100.7", "dev": "tun0"},
        {"dst": "10.98.0.0/30", "dev": "ts-own"},
        {"type": "local", "dst": "127.0.0.0/8", "dev": "lo"}
    ]"""
    monkeypatch.setattr(addresses, "run", lambda _: routes)
    found = addresses.reached_networks(except_link="ts-own")
    assert found == [IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.7/32")]
