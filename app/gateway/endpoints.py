"""The public entry: every path leads to the role that serves it."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from app.gateway.proxy import Proxy
from app.gateway.tunnel import tunnel_for
from app.kit.errors import ConfigurationError
from app.kit.runtime import Runtime
from app.kit.web import HttpServer, Observed


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    proxy = Proxy(runtime)
    try:
        with _metrics(runtime):
            await runtime.serve(HttpServer(runtime, Observed(proxy, runtime), websocket=tunnel_for(runtime)))
    finally:
        await proxy.close()


@contextmanager
def _metrics(runtime: Runtime) -> Iterator[None]:
    """Serve /metrics on a port that the public does not reach."""
    settings = runtime.settings
    port = settings.metrics_port
    if port is None and settings.port is None:
        port = runtime.role.metrics_port
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, settings.host)
    except OSError as error:
        raise ConfigurationError(
            f"{runtime.role.name} cannot serve metrics on {settings.host}:{port}: {error.strerror}; "
            "APP_METRICS_PORT chooses another port"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
