"""What the environment may say, and what is told when it is wrong."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from app.kit.errors import ConfigurationError
from app.kit.internal import HEADER, headers, only_roles
from app.kit.problems import Problem
from app.kit.settings import Settings


@pytest.mark.parametrize("url", ["memory://", "kafka://kafka:9092", "kafka://b-1.msk:9098,b-2.msk:9098"])
def test_a_bus_has_one_or_more_bootstrap_servers(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("APP_BUS_URL", url)
    assert Settings.load().bus_url == url


@pytest.mark.parametrize(
    "url", ["kafka://kafka", "kafka://a:9098,b", "kafka://a:9098,", "kafka://a:9098, b:1"]
)
def test_a_bootstrap_server_without_port_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("APP_BUS_URL", url)
    with pytest.raises(ConfigurationError, match="APP_BUS_URL"):
        Settings.load()


def test_iam_needs_the_region_of_the_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_BUS_SECURITY", "msk-iam")
    with pytest.raises(
        ConfigurationError, match=r"APP_AWS_REGION.*APP_BUS_SECURITY=msk-iam needs the region"
    ):
        Settings.load()
    monkeypatch.setenv("APP_AWS_REGION", "somewhere")
    with pytest.raises(ConfigurationError, match="APP_AWS_REGION='somewhere'"):
        Settings.load()
    monkeypatch.setenv("APP_AWS_REGION", "us-gov-west-1")
    assert Settings.load().aws_region == "us-gov-west-1"


def test_an_unknown_security_names_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_BUS_SECURITY", "tls")
    with pytest.raises(ConfigurationError, match="'plaintext' or 'msk-iam'"):
        Settings.load()


def test_a_password_from_a_file_is_read_again_and_survives_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "app_cache_password"
    file.write_text("one\n")
    monkeypatch.setenv("APP_SECRETS_DIR", str(tmp_path))
    password = Settings.load().password("cache_password")
    assert password() == "one"
    file.write_text("two\n")
    assert password() == "two"
    file.unlink()
    assert password() == "two"


def test_a_variable_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app_cache_password").write_text("file")
    monkeypatch.setenv("APP_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("APP_CACHE_PASSWORD", "variable")
    settings = Settings.load()
    assert settings.password("cache_password")() == "variable"
    assert settings.password("database_password")() is None


def test_an_internal_token_can_be_replaced_while_roles_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "app_internal_token"
    monkeypatch.setenv("APP_SECRETS_DIR", str(tmp_path))
    used, announced, new = ("a" * 40, "b" * 40, "c" * 40)
    file.write_text(f"{used}\n{announced}\n")
    settings = Settings.load()
    client = TestClient(_app(settings))
    assert headers(settings) == {HEADER: used}
    for token, status in ((used, 200), (announced, 200), (new, 403), ("", 403), (f"{used} {announced}", 403)):
        assert client.get("/", headers={HEADER: token}).status_code == status
    file.write_text(f"{announced}\n{new}\n{used}\n")
    assert headers(settings) == {HEADER: announced}
    assert {client.get("/", headers={HEADER: token}).status_code for token in (used, announced, new)} == {200}


def test_without_an_internal_token_only_this_machine_is_let_in() -> None:
    settings = Settings.load()
    assert headers(settings) == {}
    for address, status in (("127.0.0.1", 200), ("::1", 200), ("10.0.0.7", 403), ("testclient", 403)):
        client = TestClient(_app(settings), client=(address, 4711))
        assert client.get("/").status_code == status


def _app(settings: Settings) -> FastAPI:
    app = FastAPI(dependencies=[Depends(only_roles)])
    app.state.runtime = SimpleNamespace(settings=settings)

    @app.exception_handler(Problem)
    async def refused(_: Request, problem: Problem) -> JSONResponse:
        return JSONResponse({}, problem.status)

    @app.get("/")
    async def root() -> None: ...

    return app
