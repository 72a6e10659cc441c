"""The web pages: static files with strict security headers."""

from pathlib import Path

from fastapi import Request
from starlette.middleware.base import RequestResponseEndpoint
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from app.kit import web
from app.kit.runtime import Runtime

_FILES = Path(__file__).resolve().parent.parent / "web"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # with an ETag: a new version shows at once, an old one costs no bytes
}


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    app = web.create_app(runtime)

    @app.middleware("http")
    async def secure(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    app.mount("/", StaticFiles(directory=_FILES, html=True))
    await runtime.serve(web.HttpServer(runtime, app))
