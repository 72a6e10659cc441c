"""Names and ports that monitoring has inside the cluster."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Server:
    """A server, its Service and its pods, which all have the same name."""

    name: str
    port: int


PROMETHEUS = Server("prometheus", 9090)
ALERTMANAGER = Server("alertmanager", 9093)

PORT_NAME = "web"
"""Name of both servers' port; prometheus-operator calls it so."""

GROUP = "monitoring.coreos.com"
"""API group of prometheus-operator."""
