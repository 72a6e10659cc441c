"""The backing services, each on free loopback ports below a temporary directory."""

import os
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.errors import TradestackError
from infra.images import kafka_jars
from infra.servers.process import ProcessGroup, ServerProcess, answers, free_port, wait_until

POSTGRESQL = Path("/usr/lib/postgresql/15/bin")
_STARTS = 50


class Missing(Exception):
    """A program is not on this machine; the tests that need it are skipped."""


class Postgresql:
    """One PostgreSQL server; every test takes a database of its own."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        """`durable` waits for the disk at each commit, as in production; tests need not."""
        if not (POSTGRESQL / "initdb").exists():
            raise Missing(f"{POSTGRESQL}/initdb: install postgresql-15")
        user = "postgres" if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(directory, user)
        self.port = free_port()
        subprocess.run(
            [
                POSTGRESQL / "initdb",
                "--no-sync",
                "--username=trading",
                "--auth=trust",
                "-D",
                directory / "data",
            ],
            check=True,
            capture_output=True,
            user=user,
            cwd=directory,
        )
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(directory),
            "fsync": "on" if durable else "off",
            "max_connections": 200,
        }
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [str(POSTGRESQL / "postgres"), "-D", str(directory / "data"), "-p", str(self.port), *flags]
        log = directory / "postgresql.log"
        self.process = ServerProcess(command, log, user=user, cwd=directory)
        self.start()

    def start(self) -> None:
        """Start, also after a kill, and wait until it answers.

        After a kill its connections take a moment to notice; until then a new server refuses to start.
        """
        for attempt in range(_STARTS, 0, -1):
            try:
                self.process.start(self._is_ready)
                return
            except AssertionError as error:
                if attempt == 1 or "pre-existing shared memory block" not in str(error):
                    raise
                time.sleep(0.2)

    def _is_ready(self) -> bool:
        check = [str(POSTGRESQL / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(check, check=False).returncode == 0

    async def new_database(self) -> str:
        """SQLAlchemy URL of an empty database."""
        name = f"test_{uuid4().hex[:12]}"
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.port, user="trading", database="postgres"
        )
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return f"postgresql+asyncpg://trading@127.0.0.1:{self.port}/{name}"


class Redis:
    """One Redis server with a password, without persistence."""

    password = "open sesame"  # noqa: S105 - of a server that lives for minutes on loopback

    def __init__(self, directory: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise Missing("redis-server: install redis-server")
        self.port = free_port()
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "save": "",
            "dir": directory,
            "requirepass": self.password,
        }
        flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.process = ServerProcess([program, *flags], directory / "redis.log")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start, also after a kill, and wait until it answers."""
        self.process.start(lambda: answers(self.port))


class RedisCluster:
    """Three Redis servers that share the slots, with a password."""

    password = "open sesame"  # noqa: S105 - of a server that lives for minutes on loopback

    def __init__(self, directory: Path) -> None:
        program, client = shutil.which("redis-server"), shutil.which("redis-cli")
        if program is None or client is None:
            raise Missing("redis-server, redis-cli: install redis-server")
        self.ports = [free_port() for _ in range(3)]
        self.url = f"redis://127.0.0.1:{self.ports[0]}/0?cluster=true"
        servers: list[ServerProcess] = []
        self.process = ProcessGroup(servers)
        for port in self.ports:
            home = directory / str(port)
            home.mkdir()
            options = {
                "port": port,
                "bind": "127.0.0.1",
                "save": "",
                "dir": home,
                "requirepass": self.password,
                "masterauth": self.password,
                "cluster-enabled": "yes",
                "cluster-port": free_port(),
            }
            flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
            servers.append(ServerProcess([program, *flags], home / "redis.log"))
        self._ask = [client, "--no-auth-warning", "-a", self.password]
        try:
            for server, port in zip(servers, self.ports, strict=True):
                server.start(partial(answers, port))
            addresses = [f"127.0.0.1:{port}" for port in self.ports]
            create = [*self._ask, "--cluster", "create", *addresses, "--cluster-yes"]
            subprocess.run(create, check=True, capture_output=True)
            wait_until("the cluster is formed", self._is_formed, 20)
        except BaseException:
            self.process.kill()
            raise

    def _is_formed(self) -> bool:
        def state(port: int) -> str:
            ask = [*self._ask, "-p", str(port), "cluster", "info"]
            return subprocess.run(ask, check=True, capture_output=True, text=True).stdout

        return all("cluster_state:ok" in state(port) for port in self.ports)


class Kafka:
    """One Kafka node in KRaft mode."""

    def __init__(self, directory: Path, *, optimised: bool = False) -> None:
        """`optimised` lets Java compile fully, as in production; starting takes less without."""
        java = shutil.which("java")
        if java is None:
            raise Missing("java: install openjdk-17-jre-headless")
        try:
            jars = kafka_jars.ensure()
        except TradestackError as error:
            raise Missing(str(error)) from error
        self.port, controller = free_port(), free_port()
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": directory / "data",
            "auto.create.topics.enable": "false",
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 3,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
        }
        config = directory / "server.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        run = [
            java,
            "-Xms128m",
            "-Xmx384m",
            "-XX:+UseSerialGC",
            *(() if optimised else ("-XX:TieredStopAtLevel=1",)),
            "-cp",
            f"{jars}/*",
        ]
        subprocess.run(
            [
                *run,
                "kafka.tools.StorageTool",
                "format",
                "--cluster-id",
                "dHJhZGVzdGFjay10ZXN0cw",
                "--config",
                config,
            ],
            check=True,
            capture_output=True,
        )
        self.process = ServerProcess([*run, "kafka.Kafka", str(config)], directory / "kafka.log")
        self.url = f"kafka://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start, also after a kill, and wait until it answers."""
        self.process.start(lambda: answers(self.port), seconds=60)

    def forget(self) -> None:
        """Drop every message of every topic; whoever reads goes on with what comes next."""
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.port}"})
        topics = admin.list_topics(timeout=10).topics
        ends = [
            TopicPartition(topic, number, OFFSET_END)
            for topic, found in topics.items()
            if not topic.startswith("__")
            for number in found.partitions
        ]
        for dropped in admin.delete_records(ends).values() if ends else ():
            dropped.result(timeout=10)
