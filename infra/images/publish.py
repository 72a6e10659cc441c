"""Put an image into a registry under the name of its content, and say which digest it has there."""

import fcntl
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from infra.errors import TradestackError
from infra.images import build, catalog
from infra.images.engines import GUARD, Backend, Docker, choose
from infra.paths import cache_dir
from infra.process import CommandFailed, run
from infra.progress import Steps

_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ECR = re.compile(r"(?P<url>\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/[^@:]+)@sha256:")
_ASK_SECONDS = 30.0
_DIGEST_HEADER = "Docker-Content-Digest"


@dataclass(frozen=True)
class Login:
    """Who pushes."""

    user: str
    """User name; `AWS` for ECR."""
    password: str = field(repr=False)
    """Password or token; handed to programs on their standard input only."""


@dataclass(frozen=True)
class Repository:
    """Where an image goes."""

    url: str
    """`host/path` without a tag: `123456789012.dkr.ecr.us-east-1.amazonaws.com/tradestack-dev/app`."""
    login: Login | None = None
    """Who pushes; None where the registry asks nobody."""
    tls: bool = True
    """Whether the registry speaks TLS; false only for one on this machine."""

    @property
    def host(self) -> str:
        """Host of the registry, with its port."""
        return self.url.partition("/")[0]

    def digest(self, tag: str) -> str | None:
        """Digest of the image under `tag`; None where there is none.

        Raises:
            TradestackError: the registry cannot be asked or does not let us.
        """
        path = self.url.partition("/")[2]
        address = f"{'https' if self.tls else 'http'}://{self.host}/v2/{path}/manifests/{tag}"
        login = (self.login.user, self.login.password) if self.login else None
        try:
            answer = httpx.head(
                address, auth=login, headers={"Accept": ", ".join(_MANIFESTS)}, timeout=_ASK_SECONDS
            )
        except httpx.HTTPError as error:
            raise TradestackError(
                f"the registry {self.host} does not answer: {error}",
                hint="look at the account and the region in the stack file, and at this machine's network",
            ) from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise TradestackError(
                f"the registry {self.host} refuses to show {path}: {answer.reason_phrase}",
                hint="who asks needs ecr:BatchGetImage on the repository",
            )
        found = answer.headers.get(_DIGEST_HEADER)
        if answer.is_error or found is None:
            raise TradestackError(f"the registry {self.host} answered {answer.status_code} for {path}:{tag}")
        return str(found)


@dataclass(frozen=True)
class Published:
    """An image in a registry."""

    repository: str
    """`host/path` without a tag."""
    tag: str
    """Hash of the image's content."""

    digest: str
    """`sha256:…` of its manifest, by which workloads name it."""
    pushed: bool
    """Whether it was pushed now; false where the registry had it."""

    @property
    def uri(self) -> str:
        """`host/path@sha256:…`, which always means this image."""
        return f"{self.repository}@{self.digest}"


def ecr_login(region: str) -> Login:
    """A login of twelve hours to the ECR registries of the account that the `aws` command is signed in to.

    Raises:
        TradestackError: there is no `aws` command, or it is not signed in.
    """
    try:
        password = run(["aws", "ecr", "get-login-password", "--region", region]).strip()
    except CommandFailed as error:
        raise TradestackError(
            f"no login to ECR in {region}: {error}",
            hint="install the AWS command line and sign in, for example with `aws sso login`",
        ) from error
    return Login("AWS", password)


def stack_repository(stack: str) -> Repository:
    """The ECR repository of the app's image of a stack on AWS, with a login to it.

    Raises:
        TradestackError: bad settings, a stack without a registry, or nobody is signed in to AWS.
    """
    from infra.plan import run as plan  # only here: the other commands about images need no plan

    image = str(plan(stack).outputs["image"])
    found = _ECR.match(image)
    if found is None:
        raise TradestackError(
            f"stack '{stack}' has no registry: its image is {image}",
            hint=f"`tradestack up {stack}` loads the image into the cluster by itself",
        )
    return Repository(found["url"], ecr_login(found["region"]))


def publish(name: str, repository: Repository, steps: Steps, backend: Backend | None = None) -> Published:
    """Push the image called `name` unless the repository has its present content; built where missing.

    Raises:
        TradestackError: an unknown image, a failed build, or a registry that refuses.
    """
    tag = catalog.content_hash(name)
    reference = f"{repository.url}:{tag}"
    # Asked first: tags never move, and two builders pack equal files differently.
    found = repository.digest(tag)
    if found is not None:
        return Published(repository.url, tag, found, pushed=False)
    archive = build.ensure([name], steps, backend)[name]
    with steps.step(f"Push image {name}", estimate_s=60), _work() as work:
        try:
            if isinstance(choose(backend), Docker):
                _push_with_docker(archive, catalog.reference(name), reference, repository, work)
            else:
                _push_with_buildah(archive, reference, repository, work)
        except CommandFailed as error:
            raise TradestackError(
                f"image {name} cannot be pushed to {repository.url}: {error}",
                hint="the repository comes with the stack's first `pulumi up`; who pushes needs ecr:PutImage",
            ) from error
    digest = repository.digest(tag)
    if digest is None:
        raise TradestackError(f"the registry {repository.host} took {reference} but does not have it")
    return Published(repository.url, tag, digest, pushed=True)


def _push_with_buildah(archive: Path, reference: str, repository: Repository, work: Path) -> None:
    # A storage of its own: builds clean theirs without asking.
    storage = ("--root", work / "storage", "--runroot", work / "run", "--storage-driver", "vfs")
    buildah: list[str | Path] = [*GUARD, "buildah", *storage]
    credentials: list[str | Path] = ["--authfile", work / "auth.json"]
    tls = [f"--tls-verify={str(repository.tls).lower()}"]
    if repository.login is not None:
        login = ["login", *credentials, *tls, "--username", repository.login.user, "--password-stdin"]
        run([*buildah, *login, repository.host], stdin=repository.login.password)
    else:
        (work / "auth.json").write_text("{}")
    image = run([*buildah, "pull", "--quiet", f"docker-archive:{archive}"]).split()[-1]
    run([*buildah, "push", *credentials, *tls, "--quiet", image, f"docker://{reference}"])


def _push_with_docker(archive: Path, loaded: str, reference: str, repository: Repository, work: Path) -> None:
    docker: list[str | Path] = ["docker", "--config", work]
    if repository.login is not None:
        login = ["login", "--username", repository.login.user, "--password-stdin", repository.host]
        run([*docker, *login], stdin=repository.login.password)
    run(["docker", "image", "load", "--quiet", "--input", archive])
    run(["docker", "image", "tag", loaded, reference])
    try:
        run([*docker, "image", "push", "--quiet", reference])
    finally:
        subprocess.run(["docker", "image", "rm", reference], capture_output=True, check=False)


@contextmanager
def _work() -> Iterator[Path]:
    """A private folder; what killed runs have left is removed first."""
    folder = cache_dir() / "publish"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob("work-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix="work-", dir=folder) as name:
            yield Path(name)
