"""One named instance of the embedded cluster: its name, its folders and what must outlive a reboot."""

import hashlib
import json
import re
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from infra.cluster.addresses import AddressPlan, allocate, conflicts, reached_networks
from infra.errors import TradestackError
from infra.paths import state_dir

RUN_ROOT = Path("/run/tradestack")
"""Sockets, process ids and other things that end with a reboot; short, as socket paths may have 107 bytes."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}[a-z0-9]|[a-z]")
_LINK_NAME_LIMIT = 15


@dataclass(frozen=True)
class Instance:
    """Names and folders of an instance. Creating one touches nothing."""

    name: str
    state: Path
    """Kept over reboots: keys, the database of the API, images, volumes, logs."""

    @classmethod
    def named(cls, name: str) -> "Instance":
        """The instance `name` below the user's state directory.

        Raises:
            TradestackError: the name cannot be used in the names of links, folders and Kubernetes objects.
        """
        if not _NAME.fullmatch(name):
            raise TradestackError(
                f"cluster name {name!r}: allowed are 1 to 31 of a-z, 0-9, '-', first a letter, last not '-'"
            )
        return cls(name, (state_dir() / "clusters" / name).absolute())

    @property
    def run(self) -> Path:
        """What ends with a reboot."""
        return RUN_ROOT / self.name

    @property
    def namespace(self) -> str:
        """Name of the network namespace."""
        return f"ts-{self.name}"

    @property
    def link(self) -> str:
        """The machine's end of the link, and the name of its nftables table."""
        if len(self.namespace) <= _LINK_NAME_LIMIT:
            return self.namespace
        return "ts-" + hashlib.sha256(self.name.encode()).hexdigest()[: _LINK_NAME_LIMIT - 3]

    @property
    def cgroup(self) -> str:
        """Name of the control group, in every hierarchy, below which each process of the instance is."""
        return f"tradestack-{self.name}"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.state / "pki"

    @property
    def config(self) -> Path:
        """Configuration files, written anew at each start."""
        return self.state / "config"

    @property
    def logs(self) -> Path:
        """One file for each component."""
        return self.state / "logs"

    @property
    def volumes(self) -> Path:
        """Persistent volumes."""
        return self.state / "volumes"

    @property
    def holds_data(self) -> bool:
        """Whether there are persistent volumes, whether the cluster runs or not."""
        return self.volumes.is_dir() and any(self.volumes.iterdir())

    @property
    def bin(self) -> Path:
        """Links by which the multi-call binary is called."""
        return self.state / "bin"

    @property
    def kubeconfig(self) -> Path:
        """Access for the cluster's administrator."""
        return self.state / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens."""
        return self.run / "containerd.sock"

    @property
    def supervisor_pid(self) -> Path:
        """Locked by the supervisor while it lives; holds its process id."""
        return self.run / "supervisor.pid"

    @property
    def owner(self) -> Path:
        """Holds the path of the state that the started instance has."""
        return self.run / "owner"

    @property
    def report(self) -> Path:
        """What the supervisor last told about its components, as JSON."""
        return self.run / "components.json"

    def addresses(self) -> AddressPlan:
        """The address plan, chosen at first use and then kept.

        Raises:
            TradestackError: no range is free, or the kept one is now routed elsewhere.
        """
        plan = self.peek_addresses()
        if self.kept_addresses() is None:
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._plan_file.write_text(json.dumps({"slot": plan.slot}) + "\n")
        return plan

    def peek_addresses(self) -> AddressPlan:
        """What `addresses` would answer, without keeping it.

        Raises:
            TradestackError: as `addresses`.
        """
        reached = reached_networks(except_link=self.link)
        kept = self.kept_addresses()
        if kept is not None:
            self._refuse_conflicts(kept, reached)
            return kept
        others = [plan.slot for other in instances() if (plan := other.kept_addresses())]
        return allocate(others, reached)

    def kept_addresses(self) -> AddressPlan | None:
        """The address plan if one was chosen before."""
        if not self._plan_file.exists():
            return None
        return AddressPlan(int(json.loads(self._plan_file.read_text())["slot"]))

    @property
    def _plan_file(self) -> Path:
        return self.state / "addresses.json"

    def _refuse_conflicts(self, plan: AddressPlan, reached: list[IPv4Network]) -> None:
        met = conflicts(plan, reached)
        if met:
            raise TradestackError(
                f"cluster {self.name!r} uses {', '.join(map(str, plan.networks))}, "
                f"but this machine now routes {', '.join(map(str, met))} elsewhere",
                hint="remove that route, or `tradestack cluster down --purge` to choose again",
            )


def instances() -> list[Instance]:
    """Every instance that has state below the user's state directory."""
    root = state_dir() / "clusters"
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [Instance.named(folder.name) for folder in folders if _NAME.fullmatch(folder.name)]
