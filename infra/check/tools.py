"""kube-score and kubeconform, built from source on a miss."""

import os
from functools import cache
from pathlib import Path

from infra.check import store
from infra.cluster.binaries import go_tool
from infra.process import run
from infra.progress import Steps

SOURCES = Path(__file__).resolve().parent / "go"
"""A Go module that only names the versions of the two, with go.sum."""
_PACKAGES = {
    "kube-score": "github.com/zegl/kube-score/cmd/kube-score",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
}
_ESTIMATE_S = 30
_FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags", "-s -w")
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}


@cache
def content() -> str:
    """Identity of the pinned versions."""
    return store.content_hash([(SOURCES / name).read_bytes() for name in ("go.mod", "go.sum")])


def program(name: str, steps: Steps) -> Path:
    """The static binary `name`.

    Raises:
        TradestackError: no Go toolchain is to be had, or the build failed.
    """

    def make(folder: Path) -> None:
        tool = go_tool(steps)
        with steps.step(f"Build {name}", estimate_s=_ESTIMATE_S):
            command: list[str | Path] = [tool, "build", *_FLAGS, "-o", folder / name, _PACKAGES[name]]
            run(command, cwd=SOURCES, env={**os.environ, **GO_ENVIRONMENT})

    return store.ensure(name, content(), make) / name
