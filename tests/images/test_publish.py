"""Images pushed to a real registry on this machine."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from infra.errors import TradestackError
from infra.images import catalog, publish
from infra.images.commands import app
from infra.images.engines import Backend
from infra.images.publish import Login, Repository
from infra.plan import stackfile
from infra.progress import Steps

# The smallest image of the catalogue.
_IMAGE = "pause"
_USER, _PASSWORD = "AWS", "s3cret token"
_HASHED = "$2b$05$SvoHqx5kAzeH2cad831wXO9TttqX8c2A7NDocYV9scitwPdvy71Ki"

_CONFIG = """
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  maintenance: {{readonly: {{enabled: {readonly}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_AUTH = """
auth:
  htpasswd: {{realm: tests, path: {folder}/htpasswd}}
"""

Start = Callable[..., str]


@pytest.fixture
def registry(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Start]:
    """Starts registries on free ports; each is ended after the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*, private: bool = False, readonly: bool = False) -> str:
        folder = tmp_path / f"registry-{len(running)}"
        folder.mkdir()
        port = free_port()
        text = _CONFIG.format(folder=folder, port=port, readonly=str(readonly).lower())
        if private:
            (folder / "htpasswd").write_text(f"{_USER}:{_HASHED}\n")
            text += _AUTH.format(folder=folder)
        config = folder / "config.yml"
        config.write_text(text)
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        running.append(server)
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/v2/", timeout=5)
                return f"127.0.0.1:{port}"
            except httpx.TransportError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "the registry does not answer"
                time.sleep(0.05)

    yield start
    for server in running:
        server.terminate()
        server.wait(30)


def _publish(repository: Repository) -> publish.Published:
    return publish.publish(_IMAGE, repository, Steps(quiet=True), Backend.BUILDAH)


def test_an_image_arrives_under_its_content_hash_and_its_digest_is_the_registrys(registry: Start) -> None:
    host = registry()
    made = _publish(Repository(f"{host}/tradestack/pause", tls=False))
    tag = catalog.content_hash(_IMAGE)
    assert made.pushed
    assert (made.repository, made.tag) == (f"{host}/tradestack/pause", tag)
    assert made.uri == f"{host}/tradestack/pause@{made.digest}"
    kinds = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    by_digest = httpx.get(f"http://{host}/v2/tradestack/pause/manifests/{made.digest}", headers=kinds)
    by_tag = httpx.get(f"http://{host}/v2/tradestack/pause/manifests/{tag}", headers=kinds)
    assert by_digest.status_code == 200
    assert by_digest.text == by_tag.text
    assert list((publish.cache_dir() / "publish").glob("work-*")) == []


def test_what_the_registry_has_is_not_pushed_again(registry: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository(f"{registry()}/tradestack/pause", tls=False)
    first = _publish(repository)

    def refuse(*_: object) -> None:
        raise AssertionError("built or pushed again")

    monkeypatch.setattr(publish.build, "ensure", refuse)
    second = _publish(repository)
    assert not second.pushed
    assert (second.digest, second.tag) == (first.digest, first.tag)


def test_credentials_reach_the_registry_and_no_command_line(
    registry: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = registry(private=True)
    seen: list[str] = []
    original = publish.run

    def watch(command: list[str | Path], **options: str) -> str:
        seen.extend(map(str, command))
        return original(command, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(publish, "run", watch)
    repository = Repository(f"{host}/tradestack/pause", Login(_USER, _PASSWORD), tls=False)
    assert _publish(repository).pushed
    assert "--password-stdin" in seen
    assert not [word for word in seen if _PASSWORD in word]
    assert _PASSWORD not in repr(repository)


def test_a_wrong_password_is_told_before_anything_is_built(
    registry: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = registry(private=True)
    monkeypatch.setattr(publish.build, "ensure", None)
    with pytest.raises(TradestackError, match=f"registry {host} refuses to show tradestack/pause"):
        _publish(Repository(f"{host}/tradestack/pause", Login(_USER, "wrong"), tls=False))


def test_a_refused_push_names_the_repository_and_what_is_needed(registry: Start) -> None:
    host = registry(readonly=True)
    with pytest.raises(TradestackError, match=f"pause cannot be pushed to {host}/tradestack/pause") as caught:
        _publish(Repository(f"{host}/tradestack/pause", tls=False))
    assert caught.value.hint is not None
    assert "ecr:PutImage" in caught.value.hint


def test_a_registry_that_is_not_there_is_named(free_port: Callable[[], int]) -> None:
    host = f"127.0.0.1:{free_port()}"
    with pytest.raises(TradestackError, match=f"registry {host} does not answer"):
        _publish(Repository(f"{host}/tradestack/pause", tls=False))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a program first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        file = folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    return put


def test_the_login_of_ecr_comes_from_the_aws_command(program: Callable[[str, str], None]) -> None:
    program("aws", '[ "$*" = "ecr get-login-password --region eu-west-1" ] && echo token')
    login = publish.ecr_login("eu-west-1")
    assert (login.user, login.password) == ("AWS", "token")


def test_nobody_signed_in_is_told_with_what_to_do(program: Callable[[str, str], None]) -> None:
    program("aws", "echo 'Unable to locate credentials' >&2; exit 255")
    with pytest.raises(
        TradestackError, match=r"(?s)no login to ECR in eu-west-1.*Unable to locate"
    ) as caught:
        publish.ecr_login("eu-west-1")
    assert caught.value.hint is not None
    assert "sign in" in caught.value.hint


def test_docker_pushes_where_an_engine_answers(
    program: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    program("docker", f'echo "$@" >> {calls}; [ "$1" = version ] && echo 28; exit 0')
    archive = tmp_path / "pause.tar"
    monkeypatch.setattr(publish.build, "ensure", lambda names, *_: {names[0]: archive})
    digests = iter([None, "sha256:" + "a" * 64])
    monkeypatch.setattr(Repository, "digest", lambda *_: next(digests))
    made = publish.publish(_IMAGE, Repository("host/pause", Login(_USER, _PASSWORD)), Steps(quiet=True))
    assert made.digest == "sha256:" + "a" * 64
    text = calls.read_text()
    assert f"image load --quiet --input {archive}" in text
    assert f"image tag {catalog.reference(_IMAGE)} {made.repository}:{made.tag}" in text
    assert f"image push --quiet {made.repository}:{made.tag}" in text
    assert _PASSWORD not in text


@pytest.fixture
def stack_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the file of the stack `dev`."""
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(stackfile.locate("dev").read_text())
    monkeypatch.setattr(stackfile, "locate", lambda _: file)
    return file


@pytest.mark.parametrize("options", [[], ["--write"]])
def test_the_command_publishes_to_the_stacks_own_repository_and_writes_only_when_asked(
    options: list[str],
    stack_file: Path,
    program: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = yaml.safe_load(stack_file.read_text())["config"]
    account, region = before["tradestack:account"], before["tradestack:region"]
    program("aws", f'[ "$4" = {region} ] && echo token')
    digest = "sha256:" + "2" * 64
    asked: list[tuple[Repository, str]] = []

    def answer(self: Repository, tag: str) -> str:
        asked.append((self, tag))
        return digest

    monkeypatch.setattr(Repository, "digest", answer)
    done = CliRunner().invoke(app, ["publish", "dev", "--json", *options])
    assert done.exit_code == 0, done.output
    url, tag = f"{account}.dkr.ecr.{region}.amazonaws.com/tradestack-dev/app", catalog.content_hash("app")
    assert asked == [(Repository(url, Login("AWS", "token")), tag)]
    assert json.loads(done.stdout) == {
        "stack": "dev",
        "image": "app",
        "reference": f"{url}:{tag}",
        "uri": f"{url}@{digest}",
        "digest": digest,
        "pushed": False,
        "written": bool(options),
    }
    after = yaml.safe_load(stack_file.read_text())["config"]
    assert after == (before | {"tradestack:image": {"digest": digest}} if options else before)


def test_a_stack_without_a_registry_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.plan.run", lambda _: SimpleNamespace(outputs={"image": "localhost/app:1"}))
    with pytest.raises(TradestackError, match="stack 'local' has no registry") as caught:
        publish.stack_repository("local")
    assert caught.value.hint == "`tradestack up local` loads the image into the cluster by itself"
