"""What a stack tells its users."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi


@dataclass(frozen=True)
class Outputs:
    """Addresses of a stack; no secrets, which stay in the cluster's Secrets."""

    address: str
    """Host name or address on which node ports answer."""
    node_port: int
    """Port of the public entry."""
    namespaces: tuple[str, ...]
    """Kubernetes namespaces of the stack."""
    endpoints: Mapping[str, str]
    """Data services as the app reaches them, without passwords."""
    kubeconfig: str
    """Path of the kubeconfig that leads to the cluster."""
    image: str
    """Image of the app."""

    def export(self) -> None:
        """Hand the outputs over to the engine."""
        web = f"http://{self.address}:{self.node_port}"
        pulumi.export("urls", {"web": web, "api": f"{web}/api"})
        pulumi.export("endpoints", dict(self.endpoints))
        pulumi.export("namespaces", list(self.namespaces))
        pulumi.export("kubeconfig", self.kubeconfig)
        pulumi.export("image", self.image)
