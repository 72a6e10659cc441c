"""The real images: what is in them, what must not be, and that their programs run as in the cluster."""

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import botocore  # type: ignore[import-untyped]
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from infra.images import host

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0,
        reason="building and running images needs Linux and root",
    ),
]

# The helpers are defined in conftest.py, which is not a module that tests can import.
Get = Callable[[str], Any]
Runtime = Any
Port = Callable[[], int]

_WITH_SYSTEM = ("base", "app", "postgres", "redis", "kafka")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END", re.DOTALL)


def _certificates(*files: Path) -> set[str]:
    text = "\n".join(file.read_text(errors="replace") for file in files)
    return {"".join(body.split()) for body in _CERTIFICATE.findall(text)}


def _text_files(root: Path) -> list[Path]:
    """Regular files of the folders where configuration could hide, up to 1 MB each."""
    folders = ("etc", "opt", "root", "run", "srv", "tmp", "usr/local", "usr/share/ca-certificates", "var")
    found = []
    for folder in folders:
        for directory, _, names in os.walk(root / folder):
            paths = [Path(directory) / name for name in names]
            found += [path for path in paths if not path.is_symlink() and path.stat().st_size < 2**20]
    return found


@pytest.mark.parametrize("name", _WITH_SYSTEM)
def test_runs_as_an_unprivileged_numeric_user(unpacked: Get, name: str) -> None:
    uid, gid = unpacked(name).config["User"].split(":")
    assert int(uid) > 10000
    assert int(gid) > 10000


@pytest.mark.parametrize("name", _WITH_SYSTEM)
def test_nothing_of_the_building_machine_is_in_the_image(unpacked: Get, name: str) -> None:
    image = unpacked(name)
    root = image.root
    for absent in (
        "run/host",
        "run/wheels",
        "etc/pip.conf",
        "root/.config",
        "root/.cache",
        "tmp/requirements.txt",
    ):
        assert not (root / absent).exists(), absent
    assert [
        entry for entry in image.config["Env"] if re.match(r"(?i)(pip_|ssl_|.*_proxy=|apt_)", entry)
    ] == []
    sources = [root / "etc/apt/sources.list", *(root / "etc/apt/sources.list.d").glob("*")]
    urls = re.findall(r"https?://\S+", "".join(file.read_text() for file in sources))
    assert {url.split("/")[2] for url in urls} == {"deb.debian.org"}
    settings = "".join(file.read_text() for file in (root / "etc/apt/apt.conf.d").iterdir())
    assert not re.search(r"(?i)proxy|cainfo", settings)
    assert not (root / "etc/apt/apt.conf").exists()
    assert list((root / "var/lib/apt/lists").glob("*_*")) == []


@pytest.mark.parametrize("name", _WITH_SYSTEM)
def test_trusts_the_public_authorities_and_no_others(unpacked: Get, name: str) -> None:
    root = unpacked(name).root
    trusted = _certificates(root / "etc/ssl/certs/ca-certificates.crt")
    public = _certificates(*(root / "usr/share/ca-certificates").rglob("*.crt"))
    assert trusted
    assert trusted <= public
    # botocore carries Mozilla's list of its day, with authorities that Debian has dropped since.
    public |= _certificates(Path(botocore.__file__).parent / "cacert.pem")
    bundle = host.ca_bundle()
    private = (_certificates(bundle) if bundle else set()) - public
    holders = [path for path in _text_files(root) if b"BEGIN CERTIFICATE" in path.read_bytes()]
    assert _certificates(*holders) & private == set()


def test_images_share_their_first_layers(unpacked: Get) -> None:
    base = unpacked("base").layers
    for name in ("app", "postgres", "redis", "kafka"):
        assert unpacked(name).layers[: len(base)] == base


def test_app_image_knows_its_roles(unpacked: Get, runtime: Runtime) -> None:
    shown = runtime.start(unpacked("app"), "roles").output()
    assert "gateway" in shown
    assert "price-collector" in shown
    assert "The exchange is compiled." in shown


def test_app_image_has_no_compiler(unpacked: Get) -> None:
    root = unpacked("app").root
    assert list(root.glob("opt/venv/lib/python3.11/site-packages/app_exchange_compiled-*/engine.*.so"))
    assert not list(root.glob("usr/bin/*gcc*"))
    assert not list(root.glob("opt/**/mypyc"))


def test_app_image_brings_its_bytecode_and_no_installer(unpacked: Get, runtime: Runtime) -> None:
    root = unpacked("app").root
    modules = [path for path in (root / "srv/app").rglob("*.py") if path.stat().st_size > 0]
    assert modules
    for module in modules:
        assert (module.parent / "__pycache__" / f"{module.stem}.cpython-311.pyc").is_file(), module
    assert not list((root / "opt/venv/lib/python3.11/site-packages").glob("pip*"))
    assert list(root.glob("srv/**/tests")) == []
    # With -v Python tells of every module whether it comes from bytecode or from the source.
    loaded = runtime.start(unpacked("app"), "-v", "-m", "app", "roles", entrypoint=["python"]).output()
    assert "/srv/app/__pycache__/roles.cpython-311.pyc" in loaded
    assert not re.search(r"code object from '[^']+\.py'", loaded)


def test_postgres_initialises_answers_and_keeps_its_data(
    unpacked: Get, runtime: Runtime, data: Path, password: Path, free_port: Port
) -> None:
    port = free_port()
    environment = {
        "POSTGRES_DB": "trading",
        "POSTGRES_USER": "trading",
        "POSTGRES_PASSWORD_FILE": "/run/secrets/password",
        "PGDATA": "/var/lib/postgresql/data/pgdata",
    }
    volumes = {"/var/lib/postgresql/data": data, "/run/secrets/password": password}

    async def query(statement: str, secret: str) -> Any:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="trading", database="trading", password=secret
        )
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    def ready() -> bool:
        try:
            return bool(asyncio.run(query("select 1", password.read_text())) == 1)
        except (OSError, asyncpg.CannotConnectNowError):
            return False

    def start() -> Any:
        server = runtime.start(
            unpacked("postgres"), "-c", f"port={port}", environment=environment, volumes=volumes
        )
        server.until(ready)
        return server

    server = start()
    asyncio.run(query("create table kept (id int)", password.read_text()))
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(query("select 1", "wrong"))
    assert server.stop() == 0
    assert "database system is shut down" in server.log()
    # As a volume comes back that Kubernetes has given to a group.
    (data / "pgdata").chmod(0o2770)
    server = start()
    assert asyncio.run(query("select count(*) from kept", password.read_text())) == 0
    assert server.stop() == 0


def test_redis_asks_for_the_password_and_keeps_its_data(
    unpacked: Get, runtime: Runtime, data: Path, password: Path, free_port: Port
) -> None:
    port = free_port()
    client = Redis(host="127.0.0.1", port=port, password=password.read_text())

    def ready() -> bool:
        try:
            return bool(client.ping())
        except (RedisError, OSError):
            return False

    def start() -> Any:
        server = runtime.start(
            unpacked("redis"),
            "--port",
            str(port),
            "--maxmemory",
            "32mb",
            environment={"REDIS_PASSWORD_FILE": "/run/secrets/password"},
            volumes={"/data": data, "/run/secrets/password": password},
        )
        server.until(ready)
        return server

    server = start()
    client.set("kept", "value")
    assert client.config_get("maxmemory") == {"maxmemory": str(32 * 2**20)}
    with pytest.raises(AuthenticationError):
        Redis(host="127.0.0.1", port=port).ping()
    assert server.stop() == 0
    server = start()
    assert client.get("kept") == b"value"
    client.close()
    assert server.stop() == 0


def test_kafka_formats_starts_and_keeps_its_topics(
    unpacked: Get, runtime: Runtime, data: Path, free_port: Port
) -> None:
    port, controller = free_port(), free_port()
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
    }
    overrides = [word for key, value in settings.items() for word in ("--override", f"{key}={value}")]
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})

    def start() -> Any:
        server = runtime.start(
            unpacked("kafka"),
            *overrides,
            environment={"KAFKA_HEAP_OPTS": "-Xms128m -Xmx256m"},
            volumes={"/var/lib/kafka": data},
        )
        server.until(lambda: "Kafka Server started" in server.log(), timeout=90)
        return server

    server = start()
    admin.create_topics([NewTopic("kept", num_partitions=2, replication_factor=1)])["kept"].result(30)
    assert server.stop() == 143
    server = start()
    assert len(admin.list_topics(timeout=30).topics["kept"].partitions) == 2
    assert server.stop() == 143
    assert {path.name for path in data.iterdir()} == {"cluster-id", "data"}
