"""Make image archives that are missing, each exactly once."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import takewhile
from pathlib import Path

from infra.errors import TradestackError
from infra.images import catalog, host, kafka_jars, rootfs
from infra.images.catalog import Artifact, Image
from infra.images.engines import Backend, Build, Engine, choose, temporary_folder
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
    return _archive(name, catalog.reference(name))


def ensure(names: Sequence[str], steps: Steps, backend: Backend | None = None) -> dict[str, Path]:
    """Archives (docker-archive, for `ctr images import`) of the named images, built where missing.

    Concurrent callers wait for each other, so nothing is built twice. Without `backend`, Docker builds where
    an engine answers and buildah elsewhere.

    Raises:
        TradestackError: an unknown image, a missing tool, too little disk space, or a failed build.
    """
    archives = {name: archive_path(name) for name in names}
    missing = [name for name, archive in archives.items() if not archive.is_file()]
    if not missing:
        return archives
    engine = choose(backend)
    _check_space()
    # The cluster's programs come first: their builds have steps, and locks, of their own.
    programs = {
        name: _program(name, steps) for name in missing if catalog.get(name).artifact is Artifact.BINARY
    }
    with _build_lock(steps):
        engine.recover()
        for partial in _folder().glob("*.partial"):
            partial.unlink()
        builder = _Builder(engine, steps, programs)
        for name in missing:
            archives[name] = builder.make(catalog.get(name))
        parents = {image.parent for image in catalog.CATALOG.values()} - {None}
        engine.prune(keep={catalog.reference(name) for name in parents if name is not None})
    for name in missing:
        _prune_archives(name, archives[name])
    return archives


class _Builder:
    """Builds images in one engine; the lock is held."""

    def __init__(self, engine: Engine, steps: Steps, programs: Mapping[str, Path]) -> None:
        self._engine = engine
        self._steps = steps
        self._programs = programs

    def make(self, image: Image) -> Path:
        """Build what the image starts from, as far as the engine lacks it, then the image and its archive."""
        ancestors = self._ancestors(image)
        references = {one.name: catalog.reference(one.name) for one in (image, *ancestors)}
        archive = _archive(image.name, references[image.name])
        if archive.is_file():
            return archive
        lacking = list(takewhile(lambda one: not self._engine.has(references[one.name]), ancestors))
        for ancestor in reversed(lacking):
            with self._step(ancestor) as step:
                self._build(ancestor, references, step)
        with self._step(image) as step:
            self._build(image, references, step)
            step.detail("writing the archive")
            self._save(image, references[image.name], archive)
        return archive

    def _step(self, image: Image) -> AbstractContextManager[Step]:
        return self._steps.step(f"Build image {image.name}", estimate_s=image.estimate_s)

    def _parent(self, image: Image) -> Image | None:
        """The image to start from, if it is ours to build."""
        parent = catalog.get(image.parent) if image.parent else None
        if parent and parent.artifact is Artifact.ROOTFS and self._engine.root_filesystem:
            return None
        return parent

    def _ancestors(self, image: Image) -> list[Image]:
        """What the image starts from, nearest first."""
        parent = self._parent(image)
        return [parent, *self._ancestors(parent)] if parent else []

    def _build(self, image: Image, references: Mapping[str, str], step: Step) -> None:
        log = _log(image)
        log.unlink(missing_ok=True)
        parent = self._parent(image)
        with (
            _explained(image, log),
            _public_modes(),
            tempfile.TemporaryDirectory(dir=temporary_folder()) as name,
        ):
            work = Path(name)
            # apt reads some of this as its own user.
            work.chmod(0o755)
            contexts = {name: work / name for name in ("artifacts", "host", "wheels")}
            for folder in contexts.values():
                folder.mkdir()
            context = work / "context"
            _stage(image, context)
            if catalog.reference(image.name) != references[image.name]:
                raise TradestackError(
                    f"the files of image {image.name} were changed while it was built",
                    hint="run the command again",
                )
            host.stage(contexts["host"], contexts["wheels"])
            self._add_artifact(image, context, contexts["artifacts"], step)
            self._engine.build(
                Build(
                    reference=references[image.name],
                    containerfile=context / "Containerfile",
                    context=context,
                    contexts=contexts,
                    base=references[parent.name] if parent else image.parent and self._engine.root_filesystem,
                    log=log,
                )
            )

    def _add_artifact(self, image: Image, context: Path, artifacts: Path, step: Step) -> None:
        match image.artifact:
            case Artifact.ROOTFS:
                step.detail("installing Debian")
                rootfs.make(context, context.parent, _log(image))
            case Artifact.JARS:
                step.detail("fetching jars")
                for jar in kafka_jars.ensure().iterdir():
                    shutil.copyfile(jar, artifacts / jar.name)
            case Artifact.BINARY:
                program = artifacts / image.name
                shutil.copyfile(self._programs[image.name], program)
                program.chmod(0o755)
                (artifacts / "entrypoint").symlink_to(image.name)
        step.detail("")

    def _save(self, image: Image, reference: str, archive: Path) -> None:
        partial, log = archive.with_suffix(".partial"), _log(image)
        with _explained(image, log):
            self._engine.save(reference, partial, log)
        partial.rename(archive)


def _stage(image: Image, context: Path) -> None:
    """Copy exactly the files that the hash covers, with modes that do not depend on the user's umask."""
    for path, file in catalog.repository_files(image).items():
        target = context / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        target.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    for folder in (path for path in context.rglob("*") if path.is_dir()):
        folder.chmod(0o755)


def _program(name: str, steps: Steps) -> Path:
    from infra.cluster import binaries  # only here: the cluster uses this module

    return binaries.path(name, steps)


def _folder() -> Path:
    return cache_dir() / "images"


def _archive(name: str, reference: str) -> Path:
    return _folder() / f"{name}-{reference.rsplit(':', 1)[1]}.tar"


def _log(image: Image) -> Path:
    return _folder() / "logs" / f"{image.name}.log"


@contextmanager
def _explained(image: Image, log: Path) -> Iterator[None]:
    try:
        yield
    except CommandFailed as error:
        raise TradestackError(
            f"image {image.name} cannot be built: {error}", hint=f"whole log: {log}"
        ) from error


@contextmanager
def _public_modes() -> Iterator[None]:
    """Images are read by other users than the one that builds, whatever this one's umask says."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


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


def _prune_archives(name: str, present: Path) -> None:
    """Keep the newest archives of the image; the present one is always among them."""
    os.utime(present)
    # A name may begin like another one's: the hash has 16 digits.
    archives = sorted(_folder().glob(f"{name}-{'[0-9a-f]' * 16}.tar"), key=lambda path: path.stat().st_mtime)
    for path in archives[:-_KEPT_ARCHIVES]:
        path.unlink(missing_ok=True)
