"""Which kubeconfig a local stack uses, and the address it leads to."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from infra.errors import TradestackError
from infra.paths import state_dir

EMBEDDED = "tradestack"
"""Name of the embedded cluster that is used where nobody named another."""


def locate(configured: str | None) -> Path:
    """Path of the kubeconfig: the stack's setting, else KUBECONFIG, else the embedded cluster's."""
    chosen = configured or os.environ.get("KUBECONFIG")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return state_dir() / "clusters" / EMBEDDED / "kubeconfig"


def address(kubeconfig: Path) -> str | None:
    """Host name or address of the API server, on which node ports answer too; None before the cluster exists.

    Raises:
        TradestackError: the file is there but is not a kubeconfig.
    """
    if not kubeconfig.exists():
        return None
    try:
        content = yaml.safe_load(kubeconfig.read_text())
        contexts = {item["name"]: item["context"] for item in content["contexts"]}
        clusters = {item["name"]: item["cluster"] for item in content["clusters"]}
        server = clusters[contexts[content["current-context"]]["cluster"]]["server"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise TradestackError(f"{kubeconfig} is not a kubeconfig with a current context: {error}") from error
    return urlsplit(str(server)).hostname
