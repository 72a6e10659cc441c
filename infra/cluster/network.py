"""The instance's network namespace and its link to the machine."""

from pathlib import Path

from infra.cluster.addresses import AddressPlan
from infra.cluster.instance import RUN_ROOT, Instance
from infra.process import CommandFailed, run

_NAMESPACES = Path("/run/netns")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_FORWARDING_WAS_OFF = RUN_ROOT / "forwarding-was-off"
"""Exists while IPv4 forwarding is on only because of instances."""
_INNER_LINK = "eth0"


def namespace_path(instance: Instance) -> Path:
    """The file that stands for the namespace."""
    return _NAMESPACES / instance.namespace


def create(instance: Instance, plan: AddressPlan) -> None:
    """Make the namespace, the link, the routes and the way out; nothing of the instance may exist yet."""
    space, link = instance.namespace, instance.link
    prefix = plan.link.prefixlen
    run(["ip", "netns", "add", space])
    run(["ip", "link", "add", link, "type", "veth", "peer", "name", _INNER_LINK, "netns", space])
    run(["ip", "address", "add", f"{plan.host}/{prefix}", "dev", link])
    run(["ip", "link", "set", link, "up"])
    for arguments in (
        ["link", "set", "lo", "up"],
        ["address", "add", f"{plan.node}/{prefix}", "dev", _INNER_LINK],
        ["link", "set", _INNER_LINK, "up"],
        ["route", "add", "default", "via", str(plan.host)],
    ):
        run(["ip", "-n", space, *arguments])
    run(["ip", "netns", "exec", space, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
    run(["ip", "route", "add", str(plan.pods), "via", str(plan.node), "dev", link])
    run(["nft", "-f", "-"], stdin=firewall(instance, plan))
    if _FORWARDING.read_text().strip() == "0":
        RUN_ROOT.mkdir(parents=True, exist_ok=True)
        _FORWARDING_WAS_OFF.touch()
        _FORWARDING.write_text("1")


def firewall(instance: Instance, plan: AddressPlan) -> str:
    """The machine's nftables rules: pods reach out under its address; only it opens connections to them."""
    return f"""
        table ip {instance.link} {{
            chain postrouting {{
                type nat hook postrouting priority srcnat
                ip saddr {{ {plan.link}, {plan.pods} }} oifname != "{instance.link}" masquerade
            }}
            chain forward {{
                type filter hook forward priority filter
                oifname "{instance.link}" ct state new drop
                iifname "{instance.link}" tcp flags syn tcp option maxseg size set rt mtu
            }}
        }}
    """


def exists(instance: Instance) -> bool:
    """Whether any of the instance's network is there."""
    return bool(
        namespace_path(instance).exists()
        or Path("/sys/class/net", instance.link).exists()
        or _succeeds(["nft", "list", "table", "ip", instance.link])
    )


def remove(instance: Instance) -> None:
    """Take away what `create` made, as far as it is there; the instance's processes must have ended."""
    _succeeds(["nft", "delete", "table", "ip", instance.link])
    _succeeds(["ip", "link", "delete", instance.link])
    _succeeds(["ip", "netns", "delete", instance.namespace])
    if _FORWARDING_WAS_OFF.exists() and not any(_NAMESPACES.glob("ts-*")):
        _FORWARDING.write_text("0")
        _FORWARDING_WAS_OFF.unlink()


def _succeeds(command: list[str]) -> bool:
    try:
        run(command)
    except CommandFailed:
        return False
    return True
