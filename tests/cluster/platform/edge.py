"""The two sides of the edge: this machine, which is outside, and the cluster's pods, which are inside."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.platform.conftest import Platform

HTTP, HTTPS = 30080, 30443
INSIDE = "http://edge.envoy-gateway-system"
"""Envoy's Service, as pods reach it."""

_PROBE = """
import json, sys, time, urllib.error, urllib.request
url, count, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for _ in range(count):
    try:
        with opener.open(url, timeout=30) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    except OSError as error:
        status, body = 0, repr(error).encode()
    print(json.dumps({"status": status, "body": body.decode()[:20000]}), flush=True)
    time.sleep(pause)
"""


@dataclass
class Answers:
    """What a client inside the cluster was answered."""

    found: list[dict[str, Any]] = field(default_factory=list)

    @property
    def statuses(self) -> set[int]:
        return {each["status"] for each in self.found}


def host(platform: Platform) -> str:
    """Address of the node."""
    return str(urlsplit(platform.url).hostname)


def ask_inside(
    platform: Platform, path: str, *, count: int = 1, pause: float = 0.0, origin: str = INSIDE
) -> Answers:
    """GET `path` from a pod, `count` times."""
    told = platform.cluster.kubectl(
        *("exec", "-i", "deployment/market-data", "-n", "trading-system", "--"),
        *("python", "-", f"{origin}{path}", str(count), str(pause)),
        stdin=_PROBE,
    )
    return Answers([json.loads(line) for line in told.splitlines() if line.startswith("{")])


@contextmanager
def asking_inside(platform: Platform, path: str, *, count: int, pause: float) -> Iterator[Answers]:
    """The same beside what the block does; its answers are all there after the block."""
    answers = Answers()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            answers.found += ask_inside(platform, path, count=count, pause=pause).found
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        thread.join()
    assert not failed, failed


def authority(platform: Platform) -> Path:
    """The certificate of who signed the edge's."""
    return platform.cluster.instance.state / "edge" / "ca.crt"


def trusting(authority: Path | str | None, **versions: ssl.TLSVersion) -> ssl.SSLContext:
    """A context that trusts one authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is not None:
        context.load_verify_locations(authority)
    if versions:
        # OpenSSL itself refuses the old versions at its usual level.
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.minimum_version, context.maximum_version = versions["least"], versions["most"]
    return context


def handshake(platform: Platform, context: ssl.SSLContext) -> str | None:
    """The version that was agreed on; raises ssl.SSLError when there is none."""
    address = host(platform)
    with (
        socket.create_connection((address, HTTPS), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=address) as secure,
    ):
        return secure.version()


def upstreams(platform: Platform, path: str, count: int) -> list[str]:
    """Pods, by address, that got the requests for `path`, from Envoy's log, once it tells of `count`."""
    deadline = time.monotonic() + 90
    while True:
        log = platform.cluster.kubectl(
            *("logs", "-n", "envoy-gateway-system", "-l", "app.kubernetes.io/name=envoy"),
            *("-c", "envoy", "--since=300s", "--tail=-1"),
        )
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        found = [str(line["upstream"]) for line in lines if line.get("path") == path]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, f"{len(found)} of {count} requests for {path} in Envoy's log"
        time.sleep(1)
