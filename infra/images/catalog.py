"""The list of images and the name that each one's content gives it.

Names are computed from files of the repository alone, without building anything, so that the stack program
and the build always agree. An image is built from exactly the files that its hash covers.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from infra.errors import TradestackError
from infra.paths import REPOSITORY

_FOLDER = Path("infra/images")
_LEFT_OUT = frozenset({"__pycache__", "tests"})


class Artifact(StrEnum):
    """What an image takes besides files of the repository; made on this machine, pinned by the repository."""

    ROOTFS = "rootfs"
    """A Debian root file system."""
    BINARY = "binary"
    """A static binary of the embedded cluster."""
    JARS = "jars"
    """The jars of Kafka."""


@dataclass(frozen=True)
class Image:
    """One image: a Containerfile, the files it copies and the image it starts from."""

    name: str
    folder: str
    """Folder below infra/images: its Containerfile and the files beside it."""
    estimate_s: float
    """Expected build time in seconds on two cores, downloads included."""
    parent: str | None = None
    extra: tuple[str, ...] = ()
    """Further files or folders of the repository, copied to the same path in the build context."""
    artifact: Artifact | None = None


_SYSTEM_IMAGES = ("pause", "coredns", "metrics-server", "local-path-provisioner")
_CONTROLLERS = (
    "envoy-gateway",
    "keda-adapter",
    "prometheus-operator",
    "prometheus-config-reloader",
    "prometheus",
)

CATALOG: dict[str, Image] = {
    image.name: image
    for image in (
        Image("debian", folder="debian", artifact=Artifact.ROOTFS, estimate_s=45),
        Image("base", folder="base", parent="debian", estimate_s=10),
        Image(
            "app-deps",
            folder="app-deps",
            parent="base",
            extra=("app/requirements.txt", "app/exchange"),
            estimate_s=80,
        ),
        Image("app", folder="app", parent="app-deps", extra=("app",), estimate_s=8),
        Image("postgres", folder="postgres", parent="base", estimate_s=45),
        Image("redis", folder="redis", parent="base", estimate_s=20),
        Image("kafka", folder="kafka", parent="base", artifact=Artifact.JARS, estimate_s=60),
        Image("envoy", folder="envoy", parent="base", estimate_s=25),
        Image("alertmanager", folder="alertmanager", parent="base", estimate_s=15),
        *(Image(name, folder="static", artifact=Artifact.BINARY, estimate_s=3) for name in _SYSTEM_IMAGES),
        *(Image(name, folder="controller", artifact=Artifact.BINARY, estimate_s=6) for name in _CONTROLLERS),
        Image(
            # Its cron scaler asks for the hour in a time zone.
            "keda-operator",
            folder="controller-zones",
            parent="base",
            artifact=Artifact.BINARY,
            estimate_s=8,
        ),
    )
}
"""Every image by name, parents before the images that start from them."""

PUBLISHED: tuple[str, ...] = tuple(name for name in CATALOG if name not in {"debian", "app-deps"})
"""The images that a cluster runs; the others are only steps towards them."""


def get(name: str) -> Image:
    """The image called `name`.

    Raises:
        TradestackError: there is no such image.
    """
    if name not in CATALOG:
        raise TradestackError(f"unknown image {name!r}; known are {', '.join(PUBLISHED)}")
    return CATALOG[name]


def repository_files(image: Image, root: Path = REPOSITORY) -> dict[str, Path]:
    """Path in the build context → file, for everything that the image is built from.

    Files beside the Containerfile keep their name, further ones their path in the repository. Tests, bytecode
    and hidden files are never part of an image.
    """
    folder = root / _FOLDER / image.folder
    files = {path.relative_to(folder).as_posix(): path for path in _walk(folder)}
    for entry in image.extra:
        files |= {path.relative_to(root).as_posix(): path for path in _walk(root / entry)}
    return dict(sorted(files.items()))


def _walk(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found: list[Path] = []
    for entry in path.iterdir():
        hidden = entry.name.startswith(".")
        if hidden or entry.name in _LEFT_OUT or entry.suffix in {".pyc", ".sqlite3"}:
            continue
        found += _walk(entry)
    return found


def content_hash(name: str, root: Path = REPOSITORY) -> str:
    """16 hexadecimal digits that change exactly when the content of the image may change.

    Raises:
        TradestackError: there is no image called `name`.
    """
    image = get(name)
    digest = hashlib.sha256()

    def add(label: str, value: bytes) -> None:
        digest.update(f"{label}\0{len(value)}\0".encode())
        digest.update(value)

    if image.parent is not None:
        add("parent", content_hash(image.parent, root).encode())
    if image.artifact is Artifact.BINARY:
        from infra.cluster import binaries  # only here: the catalogue stays cheap to import

        add(image.name, binaries.content_hash(image.name).encode())
    for path, file in repository_files(image, root).items():
        executable = "x" if file.stat().st_mode & 0o100 else "-"
        add(f"{executable} {path}", file.read_bytes())
    return digest.hexdigest()[:16]


def reference(name: str) -> str:
    """`localhost/tradestack/<name>:<content hash>`, the name under which workloads use the image.

    Raises:
        TradestackError: there is no image called `name`.
    """
    return f"localhost/tradestack/{name}:{content_hash(name)}"
