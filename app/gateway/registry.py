"""A live view of the roles behind the gateway: where they are, if they are ready, which revision they run.

It is for people inside the cluster (seed 000, section 7.2: the discovery dashboard is internal only). Envoy
answers 403 to everyone else before a request comes here, and nothing below the path is ever passed on.
"""

import asyncio
import html
import socket
import time
from collections.abc import Sequence
from typing import TypedDict
from urllib.parse import urlsplit

import httpx
import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.kit.problems import Problem
from app.kit.runtime import Runtime
from app.roles import ROLES

PATH = "/registry"
_PROBE_SECONDS = 1.0
_KEPT_SECONDS = 1.0
"""Answers within this time are one look at the roles, however many ask."""
_HEADERS = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'"}


class Instance(TypedDict):
    """One address of a role, as this process sees it."""

    address: str
    ready: bool
    reason: str | None
    """Why it is not ready."""
    revision: str | None
    """Content hash of the image that it runs; None where it does not say."""
    latency_ms: float
    """Time that its readiness took to tell."""


class Entry(TypedDict):
    """One role."""

    name: str
    summary: str
    kind: str
    routes: Sequence[str]
    url: str
    ready: bool
    """Whether it has an instance that is ready."""
    instances: Sequence[Instance]
    """By the addresses of its name: in Kubernetes that of its Service, behind which one replica answers."""


def is_registry(path: str) -> bool:
    """Whether a decoded path belongs to the registry."""
    return path == PATH or path.startswith(f"{PATH}/")


class Registry:
    """ASGI application that answers GET /registry, as JSON or, to who asks for it, as a page."""

    def __init__(self, runtime: Runtime, client: httpx.AsyncClient) -> None:
        self._runtime, self._client = runtime, client
        self._names = sorted({runtime.role.name, *runtime.role.calls})
        self._looking = asyncio.Lock()
        self._seen: list[Entry] = []
        self._seen_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Problem: another path below it, or another method.
        """
        if scope["path"] != PATH:
            raise Problem(404, "not-found", f"Nothing is served at {scope['path']}.")
        if scope["method"] not in ("GET", "HEAD"):
            raise Problem(
                405, "method-not-allowed", "The registry can only be read.", headers={"Allow": "GET"}
            )
        scope["metric_route"] = PATH
        entries = await self._look()
        if "text/html" in Headers(scope=scope).get("accept", ""):
            response = Response(_page(entries), media_type="text/html", headers=_HEADERS)
        else:
            response = Response(
                orjson.dumps({"roles": entries}), media_type="application/json", headers=_HEADERS
            )
        await response(scope, receive, send)

    async def _look(self) -> list[Entry]:
        async with self._looking:
            if time.monotonic() - self._seen_at > _KEPT_SECONDS:
                self._seen = list(await asyncio.gather(*(self._entry(name) for name in self._names)))
                self._seen_at = time.monotonic()
            return self._seen

    async def _entry(self, name: str) -> Entry:
        role, url = ROLES[name], self._runtime.upstream(name)
        if name == self._runtime.role.name:
            instances = [self._own()]
        else:
            addresses = await _addresses(url)
            instances = list(await asyncio.gather(*(self._instance(address) for address in addresses)))
        return {
            "name": name,
            "summary": role.summary,
            "kind": role.kind.value,
            "routes": role.routes,
            "url": url,
            "ready": any(instance["ready"] for instance in instances),
            "instances": instances,
        }

    def _own(self) -> Instance:
        """This process, which is ready as far as it knows."""
        runtime = self._runtime
        return {
            "address": socket.gethostname(),
            "ready": runtime.ready,
            "reason": None if runtime.ready else runtime.pending,
            "revision": runtime.settings.revision,
            "latency_ms": 0.0,
        }

    async def _instance(self, address: str) -> Instance:
        begun = time.perf_counter()
        ready, reason, revision = False, None, None
        try:
            answer = await self._client.get(f"http://{address}/readyz", timeout=_PROBE_SECONDS)
            told = answer.json()
            ready, revision = answer.status_code == httpx.codes.OK, told.get("revision")
            reason = None if ready else str(told.get("reason", f"status {answer.status_code}"))
        except (httpx.HTTPError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
        latency = round((time.perf_counter() - begun) * 1000, 1)
        return {
            "address": address,
            "ready": ready,
            "reason": reason,
            "revision": revision,
            "latency_ms": latency,
        }


async def _addresses(url: str) -> list[str]:
    """`host:port` for each address of the URL's host; none when the name is unknown."""
    parts = urlsplit(url)
    port = parts.port or 80
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            parts.hostname, port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
    except OSError:
        return []
    return sorted({f"{address[0]!s}:{port}" for *_, address in found})


def _page(entries: Sequence[Entry]) -> str:
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"
        for entry in entries
        for cells in _rows(entry)
    )
    heads = "".join(
        f"<th>{head}</th>"
        for head in ("Role", "What it does", "Routes", "Instance", "State", "Revision", "Latency")
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Registry</title><h1>Registry</h1>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></html>"
    )


def _rows(entry: Entry) -> list[tuple[str, ...]]:
    first = (entry["name"], entry["summary"], ", ".join(entry["routes"]))
    if not entry["instances"]:
        return [(*first, "-", "no address", "-", "-")]
    return [
        (
            *first,
            instance["address"],
            "ready" if instance["ready"] else str(instance["reason"]),
            instance["revision"] or "-",
            f"{instance['latency_ms']} ms",
        )
        for instance in entry["instances"]
    ]
