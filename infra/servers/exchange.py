"""The roles of the exchange as processes of their own, on real backing services."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import httpx

from infra.servers.backing import Kafka, Postgresql, Redis
from infra.servers.process import ServerProcess, free_port, wait_until

ROLES_OF_THE_EXCHANGE = ("auth", "matching-engine", "order", "wallet", "portfolio", "risk")


class Exchange:
    """PostgreSQL, Redis, Kafka and some roles below one directory; call `stop` whatever happens.

    `durable` makes the backing services run as in production: PostgreSQL waits for the disk, Java compiles
    fully. `settings` are environment variables for every role.
    """

    def __init__(
        self,
        directory: Path,
        roles: Iterable[str] = ROLES_OF_THE_EXCHANGE,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._directory = directory
        directory.chmod(0o755)
        self._secrets = directory / "secrets"
        self._secrets.mkdir()
        self._ports = {name: free_port() for name in roles}
        self._settings = dict(settings or {})
        self.roles: dict[str, ServerProcess] = {}
        self.postgresql = Postgresql(self._below("postgresql"), durable=durable)
        self.redis = Redis(self._below("redis"))
        self.kafka = Kafka(self._below("kafka"), optimised=durable)
        self.database_url = asyncio.run(self.postgresql.new_database())
        for name in ("app_auth_signing_key", "app_auth_encryption_key", "app_internal_token"):
            (self._secrets / name).write_text(secrets.token_urlsafe(48))
        (self._secrets / "app_cache_password").write_text(self.redis.password)

    def _below(self, name: str) -> Path:
        made = self._directory / name
        made.mkdir()
        return made

    def url(self, role: str) -> str:
        """Base URL of a role."""
        return f"http://127.0.0.1:{self._ports[role]}"

    @property
    def internal_headers(self) -> dict[str, str]:
        """What opens the internal endpoints of the roles."""
        return {"X-Internal-Token": (self._secrets / "app_internal_token").read_text()}

    def prepare(self) -> None:
        """Migrate and create the topics."""
        for command in ("migrate", "topics"):
            subprocess.run(self._command(command), env=self.environment(), check=True, capture_output=True)

    def start(self) -> None:
        """Start every role and wait until each is ready."""
        for role in self._ports:
            env = {
                **self.environment(),
                "APP_PORT": str(self._ports[role]),
                "APP_ADVERTISED_ADDRESS": self.url(role),
            }
            log = self._directory / f"{role}.log"
            self.roles[role] = ServerProcess(self._command("run", role), log, env=env)
            self.roles[role].launch()
        for role in self._ports:
            self.wait_ready(role)

    def restart(self, role: str) -> None:
        """Start a role again that ended; does not wait."""
        self.roles[role].launch()

    def wait_ready(self, role: str, seconds: float = 60) -> None:
        """Wait until a role takes requests; AssertionError with the end of its log when it does not."""
        process = self.roles[role]

        def is_ready() -> bool:
            if process.returncode is not None:
                raise AssertionError(f"{role} ended with {process.returncode}:\n{process.output[-3000:]}")
            try:
                return httpx.get(f"{self.url(role)}/readyz", timeout=2, trust_env=False).status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(f"{role} is ready", is_ready, seconds)

    def stop(self) -> None:
        """End everything at once."""
        for process in [
            *self.roles.values(),
            self.kafka.process,
            self.redis.process,
            self.postgresql.process,
        ]:
            process.kill()

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "app", *words]

    def environment(self) -> dict[str, str]:
        """What every process of the app is started with here."""
        return {
            **os.environ,
            "APP_DATABASE_URL": self.database_url,
            "APP_BUS_URL": self.kafka.url,
            "APP_CACHE_URL": self.redis.url,
            "APP_SECRETS_DIR": str(self._secrets),
            "APP_HOST": "127.0.0.1",
            "APP_LOG_LEVEL": "WARNING",
            **{f"APP_UPSTREAM_{name.upper().replace('-', '_')}": self.url(name) for name in self._ports},
            **self._settings,
        }
