"""A streaming reverse proxy to the other roles."""

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.gateway import routing
from app.gateway.registry import Registry, is_registry
from app.kit import logs
from app.kit.problems import Problem
from app.kit.runtime import Runtime
from app.kit.upstream import role_client
from app.kit.web import REQUEST_ID

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OWN = HOP_BY_HOP | {REQUEST_ID, "date"}
"""Headers of an upstream's answer that the gateway writes itself."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS"})
_TIMEOUT = httpx.Timeout(30.0, connect=2.0, pool=5.0)
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=30.0)
_MAX_BODY = 10 * 1024 * 1024
_BODY_SECONDS = 30.0
"""Time between two pieces of a client's body."""
_log = logs.get(__name__)


class Proxy:
    """ASGI application that passes requests on to the role whose route fits."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._client = role_client(_TIMEOUT, _LIMITS)
        self._registry = Registry(runtime, self._client)

    async def close(self) -> None:
        """Close the pooled connections."""
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            if is_registry(scope["path"]):
                await self._registry(scope, receive, send)
                return
            response = await self._forward(request)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _forward(self, request: Request) -> StreamingResponse:
        path = request.scope["path"]
        if not routing.is_plain(path):
            raise Problem(400, "invalid-path", "The path holds dot segments or backslashes.")
        found = None if routing.is_hidden(path) else routing.route(path)
        if found is None:
            raise Problem(404, "not-found", f"Nothing is served at {path}.")
        request.scope["metric_route"], role = found
        answer = await self._send(request, role)
        dropped = _OWN | connection_options(answer.headers.get("connection"))
        headers = [
            (name.lower(), value)
            for name, value in answer.headers.raw
            if name.decode("latin-1").lower() not in dropped
        ]
        response = StreamingResponse(
            _body(answer), answer.status_code, background=BackgroundTask(answer.aclose)
        )
        response.raw_headers = headers
        return response

    async def _send(self, request: Request, role: str) -> httpx.Response:
        url = httpx.URL(self._runtime.upstream(role)).copy_with(raw_path=_target(request.scope))
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        headers = forwarded(request.scope, request.headers)
        attempts = 2 if request.method in _IDEMPOTENT and not has_body else 1
        while True:
            attempts -= 1
            outgoing = self._client.build_request(
                request.method, url, headers=headers, content=_limited(request) if has_body else None
            )
            try:
                return await self._client.send(outgoing, stream=True)
            except (
                httpx.ConnectError,
                httpx.ConnectTimeout,
                httpx.RemoteProtocolError,
                httpx.ReadError,
            ) as error:
                if attempts:
                    continue
                _log.warning("upstream failed", upstream=role, reason=repr(error))
                raise Problem(
                    502, "bad-gateway", f"{role} does not answer now.", headers={"Retry-After": "1"}
                ) from None
            except httpx.PoolTimeout:
                raise Problem(
                    503, "overloaded", "Too many requests wait.", headers={"Retry-After": "1"}
                ) from None
            except httpx.TimeoutException:
                raise Problem(504, "gateway-timeout", f"{role} took too long.") from None
            except httpx.LocalProtocolError as error:
                raise Problem(400, "invalid-request", f"The request cannot be passed on: {error}.") from None
            except httpx.TransportError as error:
                _log.warning("upstream failed", upstream=role, reason=repr(error))
                raise Problem(502, "bad-gateway", f"{role} broke the connection.") from None


def _target(scope: Scope) -> bytes:
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def connection_options(value: str | None) -> set[str]:
    """Names of the headers that a Connection header declares to be of one connection only."""
    return {name.strip().lower() for name in (value or "").split(",")}


def forwarded(scope: Scope, incoming: Headers) -> list[tuple[bytes, bytes]]:
    """Headers for the upstream: without those of this connection, with who asked and for what."""
    named = connection_options(incoming.get("connection"))
    dropped = HOP_BY_HOP | named | {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", REQUEST_ID}
    client = scope["client"][0] if scope.get("client") else "unknown"
    before = incoming.get("x-forwarded-for")
    headers = [
        *((name, value) for name, value in incoming.items() if name not in dropped),
        ("x-forwarded-for", f"{before}, {client}" if before else client),
        ("x-forwarded-proto", incoming.get("x-forwarded-proto", scope.get("scheme", "http"))),
        ("x-forwarded-host", incoming.get("x-forwarded-host", incoming.get("host", ""))),
        (REQUEST_ID, scope.get("state", {}).get("request_id", "")),
    ]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it was sent, still encoded; a broken upstream breaks the answer off."""
    async for chunk in answer.aiter_raw():
        yield chunk


async def _limited(request: Request) -> AsyncIterator[bytes]:
    size = 0
    chunks = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Problem(408, "request-timeout", "The body takes too long.") from None
        size += len(chunk)
        if size > _MAX_BODY:
            raise Problem(413, "body-too-large", f"A body has at most {_MAX_BODY} bytes.")
        yield chunk
