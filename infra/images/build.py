"""Make image archives that are missing, each exactly once."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from infra.errors import TradestackError
from infra.images import catalog, host, kafka_jars, rootfs
from infra.images.catalog import Artifact, Image
from infra.images.engines import TIMESTAMP, Backend, Build, Buildah, Docker, Engine, choose
from infra.paths import cache_dir
from infra.process import CommandFailed
from infra.progress import Step, Steps

_KEPT_ARCHIVES = 3
_NEEDED_BYTES = 3 * 2**30


def archive_path(name: str) -> Path:
    """Where the archive of the image's present content belongs; it need not exist.

    Raises:
        TradestackError: there is no image called `name`.
    """
    return _folder() / f"{name}-{catalog.content_hash(name)}.tar"


def ensure(names: Sequence[str], steps: Steps, backend: Backend | None = None) -> dict[str, Path]:
    """Archives (docker-archive, for `ctr images import`) of the named images, built where missing.

    Concurrent callers wait for each other, so nothing is built twice. Without `backend`, Docker builds where an
    engine answers and buildah elsewhere.

    Raises:
        TradestackError: an unknown image, a missing tool, too little disk space, or a failed build.
    """
    archives = {name: archive_path(name) for name in names}
    missing = [name for name, archive in archives.items() if not archive.is_file()]
    if not missing:
        return archives
    engine: Engine = Docker() if choose(backend) is Backend.DOCKER else Buildah()
    # What other areas make comes first: it has steps, and locks, of its own.
    binaries = {name: _binary(name, steps) for name in missing if catalog.get(name).artifact is Artifact.BINARY}
    _check_space()
    with _build_lock(steps):
        engine.recover()
        for name in missing:
            if not archives[name].is_file():
                _build_chain(name, engine, steps, binaries)
        parents = {image.parent for image in catalog.CATALOG.values()}
        engine.prune({catalog.reference_of(name, catalog.content_hash(name)) for name in parents if name})
    for name in missing:
        _prune_archives(name)
    return archives


def _build_chain(name: str, engine: Engine, steps: Steps, binaries: dict[str, Path]) -> None:
    """Build what the image starts from, as far as the engine lacks it, then the image and its archive."""
    chain = [catalog.get(name)]
    while (parent := chain[-1].parent) is not None:
        chain.append(catalog.get(parent))
    for image in reversed(chain):
        is_root_filesystem = image.artifact is Artifact.ROOTFS
        if is_root_filesystem and engine.root_filesystem is not None:
            continue
        wanted = image.name == name
        reference = _reference(image)
        if wanted or not engine.has(reference):
            with steps.step(f"build image {image.name}", estimate_s=image.estimate_s) as step:
                _build(image, engine, step, binaries.get(image.name))
                if wanted:
                    step.detail("writing the archive")
                    _save(image, engine)


def _build(image: Image, engine: Engine, step: Step, binary: Path | None) -> None:
    log = _log(image)
    log.unlink(missing_ok=True)
    with ExitStack() as stack, _explained(image, log):
        (cache_dir() / "buildah" / "tmp").mkdir(parents=True, exist_ok=True)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=cache_dir() / "buildah" / "tmp")))
        work.chmod(0o755)
        folders = {name: work / name for name in ("context", "artifacts", "host", "wheels")}
        for folder in folders.values():
            folder.mkdir()
        _stage(image, folders["context"])
        host.stage(folders["host"], folders["wheels"])
        match image.artifact:
            case Artifact.ROOTFS:
                step.detail("installing Debian")
                rootfs.make(folders["context"] / "rootfs.tar", log, TIMESTAMP)
            case Artifact.JARS:
                step.detail("fetching jars")
                shutil.copytree(kafka_jars.ensure(), folders["artifacts"], dirs_exist_ok=True)
            case Artifact.BINARY if binary is not None:
                shutil.copyfile(binary, folders["artifacts"] / image.name)
                (folders["artifacts"] / image.name).chmod(0o755)
                (folders["artifacts"] / "entrypoint").symlink_to(image.name)
        step.detail("")
        context = folders.pop("context")
        engine.build(
            Build(
                reference=_reference(image),
                containerfile=context / "Containerfile",
                context=context,
                contexts=folders,
                base=_base(image, engine),
                log=log,
            )
        )


def _stage(image: Image, context: Path) -> None:
    """Copy exactly the files that the hash covers, with modes that do not depend on the user's umask."""
    for path, file in catalog.repository_files(image).items():
        target = context / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        target.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    for folder in (path for path in context.rglob("*") if path.is_dir()):
        folder.chmod(0o755)


def _save(image: Image, engine: Engine) -> None:
    archive, log = archive_path(image.name), _log(image)
    partial = archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with _explained(image, log):
        engine.save(_reference(image), partial, log)
    partial.rename(archive)


def _base(image: Image, engine: Engine) -> str | None:
    if image.parent is None:
        return None
    parent = catalog.get(image.parent)
    if parent.artifact is Artifact.ROOTFS and engine.root_filesystem is not None:
        return engine.root_filesystem
    return _reference(parent)


def _reference(image: Image) -> str:
    """Computed anew, not remembered: a long-running process sees that the code has changed."""
    return catalog.reference_of(image.name, catalog.content_hash(image.name))


def _binary(name: str, steps: Steps) -> Path:
    from infra.cluster import binaries

    return binaries.path(name, steps)


def _folder() -> Path:
    return cache_dir() / "images"


def _log(image: Image) -> Path:
    return _folder() / "logs" / f"{image.name}.log"


@contextmanager
def _explained(image: Image, log: Path) -> Iterator[None]:
    try:
        yield
    except CommandFailed as error:
        raise TradestackError(f"image {image.name} cannot be built: {error}", hint=f"whole log: {log}") from error


@contextmanager
def _build_lock(steps: Steps) -> Iterator[None]:
    """One building process at a time: builds share the storage and its cleaning."""
    _folder().mkdir(parents=True, exist_ok=True)
    with (_folder() / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with steps.step("wait for another image build"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_space() -> None:
    _folder().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(_folder()).free
    if free < _NEEDED_BYTES:
        raise TradestackError(
            f"building images needs 3 GiB of free disk space, {_folder()} has {free / 2**30:.1f} GiB",
            hint="free some space, or set XDG_CACHE_HOME to a larger disk",
        )


def _prune_archives(name: str) -> None:
    """Keep the newest archives of the image; the present one is always among them."""
    present = archive_path(name)
    os.utime(present)
    archives = [path for path in _folder().glob(f"{name}-*.tar") if len(path.stem) == len(name) + 17]
    for path in sorted(archives, key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT_ARCHIVES:]:
        path.unlink(missing_ok=True)
