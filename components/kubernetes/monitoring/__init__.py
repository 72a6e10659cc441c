"""Metrics, alerts and dashboards of the platform, run by prometheus-operator."""

from components.kubernetes.monitoring.alertmanager import Email, Receiver, Topic, Webhook
from components.kubernetes.monitoring.component import Monitoring, MonitoringArgs, ServerArgs, VolumeArgs
from components.kubernetes.monitoring.names import ALERTMANAGER, PROMETHEUS
from components.kubernetes.monitoring.scrapes import AddonTarget, ServiceTarget

__all__ = [
    "ALERTMANAGER",
    "PROMETHEUS",
    "AddonTarget",
    "Email",
    "Monitoring",
    "MonitoringArgs",
    "Receiver",
    "ServerArgs",
    "ServiceTarget",
    "Topic",
    "VolumeArgs",
    "Webhook",
]
