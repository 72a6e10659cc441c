"""The public entry: every path leads to the role that serves it."""

from app.gateway.proxy import Proxy
from app.gateway.tunnel import tunnel_for
from app.kit.runtime import Runtime
from app.kit.web import HttpServer, Observed


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    proxy = Proxy(runtime)
    try:
        await runtime.serve(HttpServer(runtime, Observed(proxy, runtime), websocket=tunnel_for(runtime)))
    finally:
        await proxy.close()
