"""Endpoints that only other roles of the platform may call; no public route leads to them."""

import hmac
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader

from app.kit.problems import Problem
from app.kit.runtime import Runtime
from app.kit.settings import Settings

HEADER = "X-Internal-Token"
_token = APIKeyHeader(name=HEADER, auto_error=False)


async def only_roles(request: Request, given: Annotated[str | None, Depends(_token)]) -> None:
    """Dependency: lets callers through that have the internal token, or from this machine when there is none.

    The token is the file `app_internal_token` in APP_SECRETS_DIR, read again when it changes. Of several
    lines the first is sent and each is let through, so that it can be replaced while roles run. Without a
    token only the loopback address is let through, as where all roles are one process.

    Raises:
        Problem: 403 `internal-only`.
    """
    runtime: Runtime = request.app.state.runtime
    tokens = _tokens(runtime.settings)
    if tokens:
        allowed = any(hmac.compare_digest((given or "").encode(), token.encode()) for token in tokens)
    else:
        allowed = request.client is not None and _is_loopback(request.client.host)
    if not allowed:
        raise Problem(403, "internal-only", "Only other roles of the platform may do this.")


def headers(settings: Settings) -> dict[str, str]:
    """What a role sends with its requests to such endpoints."""
    tokens = _tokens(settings)
    return {HEADER: tokens[0]} if tokens else {}


def _tokens(settings: Settings) -> list[str]:
    return (settings.password("internal_token")() or "").split()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
