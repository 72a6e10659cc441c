"""Specs of the Prometheus and the Alertmanager that prometheus-operator runs."""

from typing import TYPE_CHECKING, Any

from components.kubernetes.meta import PLATFORM, labels, selector
from components.kubernetes.monitoring.names import ALERTMANAGER, PORT_NAME, PROMETHEUS, Server
from components.kubernetes.monitoring.scrapes import INTERVAL, TIMEOUT
from components.kubernetes.pod import requirements

if TYPE_CHECKING:
    from components.kubernetes.monitoring.component import MonitoringArgs, ServerArgs, VolumeArgs

_USER = 10001
_FULL = 0.8
"""Part of the volume that old blocks may fill; the rest is for the write-ahead log and for compaction."""
_MIB = 2**20
_ALERTMANAGER_STORAGE = "64Mi"
"""Silences and what was told to whom."""
_OURS = {"matchLabels": {"app.kubernetes.io/part-of": PLATFORM}}


def prometheus(args: "MonitoringArgs") -> dict[str, Any]:
    """Spec of the Prometheus; it takes monitors and rules of its own namespace only."""
    return {
        **_common(PROMETHEUS, args.prometheus, args.volume, str(args.volume.size)),
        "retention": f"{args.retention_days}d",
        "retentionSize": f"{int(args.volume.size_bytes * _FULL) // _MIB}MB",
        "scrapeInterval": INTERVAL,
        "scrapeTimeout": TIMEOUT,
        "evaluationInterval": INTERVAL,
        "externalLabels": {"stack": args.stack},
        "serviceDiscoveryRole": "EndpointSlice",
        "serviceMonitorSelector": _OURS,
        "podMonitorSelector": _OURS,
        "ruleSelector": _OURS,
        "alerting": {
            "alertmanagers": [
                {
                    "namespace": args.namespace,
                    "name": ALERTMANAGER.name,
                    "port": PORT_NAME,
                    "apiVersion": "v2",
                }
            ]
        },
    }


def alertmanager(args: "MonitoringArgs") -> dict[str, Any]:
    """Spec of the Alertmanager."""
    return {
        **_common(ALERTMANAGER, args.alertmanager, args.volume, _ALERTMANAGER_STORAGE),
        "alertmanagerConfiguration": {"name": ALERTMANAGER.name},
        "automountServiceAccountToken": False,
        "retention": "120h",
    }


def _common(server: Server, args: "ServerArgs", volume: "VolumeArgs", size: str) -> dict[str, Any]:
    return {
        "image": args.image,
        "version": args.version,
        "replicas": 1,
        "portName": PORT_NAME,
        "logFormat": "json",
        "serviceAccountName": server.name,
        "podMetadata": {"labels": {"app.kubernetes.io/part-of": PLATFORM}},
        "resources": requirements(args.resources),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(server.name)},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "storage": {
            "volumeClaimTemplate": {
                "metadata": {"labels": labels(server.name)},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": volume.storage_class,
                    "resources": {"requests": {"storage": size}},
                },
            }
        },
    }
