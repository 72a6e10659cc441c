"""Which addresses an instance uses, chosen so that they meet nothing the machine already reaches."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from infra.errors import TradestackError
from infra.process import run

_SLOTS = 256


@dataclass(frozen=True)
class AddressPlan:
    """The addresses of one instance; everything follows from its slot."""

    slot: int
    """0 to 255; no two instances on a machine share one."""

    @property
    def link(self) -> IPv4Network:
        """The link between the machine and the node."""
        return IPv4Network(f"10.98.{self.slot}.0/30")

    @property
    def host(self) -> IPv4Address:
        """The machine's end of the link."""
        return self.link[1]

    @property
    def node(self) -> IPv4Address:
        """The node's address: API server and node ports answer here."""
        return self.link[2]

    @property
    def pods(self) -> IPv4Network:
        """Addresses of the pods."""
        return IPv4Network(f"10.97.{self.slot}.0/24")

    @property
    def services(self) -> IPv4Network:
        """Cluster addresses of the Services; they exist only inside the instance."""
        return IPv4Network(f"10.96.{self.slot}.0/24")

    @property
    def api(self) -> IPv4Address:
        """Cluster address of the `kubernetes` Service."""
        return self.services[1]

    @property
    def dns(self) -> IPv4Address:
        """Cluster address of the DNS Service."""
        return self.services[10]

    @property
    def networks(self) -> tuple[IPv4Network, ...]:
        """Everything that must not be in use elsewhere."""
        return (self.link, self.pods, self.services)


def allocate(taken_slots: Iterable[int], reached: Iterable[IPv4Network]) -> AddressPlan:
    """The first plan that no other instance has and that overlaps nothing in `reached`.

    Raises:
        TradestackError: every plan meets something.
    """
    taken, routes = set(taken_slots), list(reached)
    for slot in range(_SLOTS):
        plan = AddressPlan(slot)
        if slot not in taken and not conflicts(plan, routes):
            return plan
    raise TradestackError(
        "no free address range: all of 10.96.0.0/16, 10.97.0.0/16 and 10.98.0.0/16 is routed or in use",
        hint="see `ip route`; `tradestack cluster down --purge` frees the range of a cluster",
    )


def conflicts(plan: AddressPlan, reached: Iterable[IPv4Network]) -> list[IPv4Network]:
    """Those of `reached` that overlap the plan."""
    return [network for network in reached if any(network.overlaps(own) for own in plan.networks)]


def reached_networks(*, except_link: str) -> list[IPv4Network]:
    """IPv4 networks that the machine reaches, leaving out the default route and `except_link`."""
    found = []
    for route in json.loads(run(["ip", "-4", "-json", "route", "show", "table", "all"]) or "[]"):
        destination = str(route["dst"])
        if destination == "default" or route.get("dev") == except_link:
            continue
        network = IPv4Network(destination, strict=False)
        if not network.is_loopback and not network.is_multicast and network.prefixlen > 0:
            found.append(network)
    return found
