"""The HTTP base of a role: FastAPI with probes, problems, request ids, access logs and metrics."""

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Iterator
from uuid import uuid4

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.kit import logs, probes
from app.kit.errors import ConfigurationError, Unavailable
from app.kit.limits import BoundedHttpProtocol
from app.kit.problems import Problem
from app.kit.runtime import Runtime, Server

REQUEST_ID = "x-request-id"
CLIENT_GONE = 499
"""In logs and metrics, the status of a request whose client left before the answer."""
_LOGGED_PATH = 256
"""Characters of a path in a log line; clients may send thousands."""
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_log = logs.get(__name__)
_requests = Counter("http_requests_total", "Requests answered", ["role", "method", "route", "status"])
_seconds = Histogram(
    "http_request_duration_seconds",
    "Time to the end of the answer",
    ["role", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


def create_app(runtime: Runtime, *routers: APIRouter) -> FastAPI:
    """The web application of a role with its routers; documents itself at /openapi.json."""
    app = FastAPI(
        title=f"Tradestack {runtime.role.name}",
        summary=runtime.role.summary,
        docs_url=None,
        redoc_url=None,
        # A redirect would name the scheme and host of the hop before: behind TLS, plain HTTP.
        redirect_slashes=False,
    )
    app.state.runtime = runtime
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Unavailable, _unavailable)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(Observed, runtime=runtime)
    return app


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for this type
    return error.response()


async def _http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    codes = {404: "not-found", 405: "method-not-allowed"}
    code = codes.get(error.status_code, f"http-{error.status_code}")
    return Problem(error.status_code, code, error.detail, headers=dict(error.headers or {})).response()


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
    errors = [
        {"field": ".".join(str(part) for part in e["loc"]), "message": e["msg"]} for e in error.errors()
    ]
    told = "; ".join(f"{e['field']}: {e['message']}" for e in errors)
    return Problem(422, "invalid-request", told, errors=errors).response()


async def _unavailable(_: Request, error: Exception) -> Response:
    assert isinstance(error, Unavailable)  # noqa: S101 - registered for this type
    _log.warning("unavailable", reason=str(error))
    detail = f"The {error.service} does not answer now; try again."
    return Problem(503, "unavailable", detail, headers={"Retry-After": "1"}).response()


async def _unexpected(_: Request, error: Exception) -> Response:
    return Problem(
        500, "internal-error", "Something went wrong on our side; the request id finds it."
    ).response()


class Observed:
    """Answers the probes; gives every other request an id, a log line and a place in the metrics."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        probe = probes.answer(self._runtime, scope["path"])
        if probe is not None:
            status, media_type, body = probe
            await Response(body, status, media_type=media_type)(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _ACCEPTED_ID.fullmatch(given) else uuid4().hex
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        status = CLIENT_GONE

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        begun = time.perf_counter()
        with structlog.contextvars.bound_contextvars(role=self._runtime.role.name, request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                status = 500
                raise
            finally:
                self._record(scope, status, time.perf_counter() - begun)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        role = self._runtime.role.name
        route = scope.get("metric_route") or getattr(scope.get("route"), "path", "unmatched")
        _requests.labels(role, scope["method"], route, status).inc()
        _seconds.labels(role, route).observe(seconds)
        client = scope.get("client")
        _log.info(
            "request",
            method=scope["method"],
            path=scope["path"][:_LOGGED_PATH],
            status=status,
            ms=round(seconds * 1000, 2),
            client=client[0] if client else None,
        )


class _Uvicorn(uvicorn.Server):
    """Signals belong to the process, not to one of its servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer(Server):
    """Serves a web application on the role's port."""

    def __init__(
        self, runtime: Runtime, app: ASGIApp, *, websocket: type[asyncio.Protocol] | None = None
    ) -> None:
        self._runtime = runtime
        self._config = uvicorn.Config(
            app,
            http=BoundedHttpProtocol,
            ws=websocket or "none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            backlog=2048,
        )
        self._server = _Uvicorn(self._config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """See `Server`."""
        listener = listen(self._runtime)
        self._task = asyncio.create_task(self._server.serve([listener]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.005)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def drain(self, seconds: float) -> None:
        """See `Server`."""
        if self._task is None:
            return
        self._config.timeout_graceful_shutdown = int(seconds)
        self._server.should_exit = True
        await self._task


def listen(runtime: Runtime) -> socket.socket:
    """A listening socket on the role's address.

    Raises:
        ConfigurationError: the port is taken or not allowed.
    """
    port = runtime.settings.port if runtime.settings.port is not None else runtime.role.port
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((runtime.settings.host, port or 0))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"{runtime.role.name} cannot listen on {runtime.settings.host}:{port}: {error.strerror}; "
            "APP_PORT chooses another port"
        ) from error
    listener.listen(2048)
    listener.setblocking(False)
    return listener
