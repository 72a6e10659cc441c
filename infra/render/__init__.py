"""The Kubernetes part of a plan: as files, in a cluster, and gone again."""

from infra.render.apply import ApplyResult, Change, apply
from infra.render.delete import delete, holds_data
from infra.render.files import write
from infra.render.objects import KubernetesObject, objects
from infra.render.state import is_applied, status
from infra.render.wait import wait_ready

__all__ = [
    "ApplyResult",
    "Change",
    "KubernetesObject",
    "apply",
    "delete",
    "holds_data",
    "is_applied",
    "objects",
    "status",
    "wait_ready",
    "write",
]
