"""What a stack tells its users."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi import Input


@dataclass(frozen=True)
class Outputs:
    """Addresses of a stack; no secrets, which stay where they are kept."""

    web: str
    """Address to open."""
    namespaces: tuple[str, ...]
    """Kubernetes namespaces of the stack."""
    endpoints: Mapping[str, Input[str]]
    """Data services as the app reaches them, without passwords."""
    kubeconfig: Input[str] | None
    """Path of the kubeconfig that leads to the cluster, or its content where it holds no credential."""
    image: str
    """Image of the app."""
    more: Mapping[str, Input[Any]] = field(default_factory=dict)
    """What only stacks of this platform have, by name."""

    def export(self) -> None:
        """Hand the outputs over to the engine."""
        pulumi.export("urls", {"web": self.web, "api": f"{self.web}/api"})
        pulumi.export("endpoints", dict(self.endpoints))
        pulumi.export("namespaces", list(self.namespaces))
        if self.kubeconfig is not None:
            pulumi.export("kubeconfig", self.kubeconfig)
        pulumi.export("image", self.image)
        for name, value in self.more.items():
            pulumi.export(name, value)
