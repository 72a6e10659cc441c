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

    The token is the file `app_internal_token` in APP_SECRETS_DIR. Without one only the loopback address is
    let through, as where all roles are one process.

    Raises:
        Problem: 403 `internal-only`.
    """
    runtime: Runtime = request.app.state.runtime
    token = runtime.settings.internal_token
    if token is None:
        allowed = request.client is not None and _is_loopback(request.client.host)
    else:
        allowed = hmac.compare_digest((given or "").encode(), token.get_secret_value().encode())
    if not allowed:
        raise Problem(403, "internal-only", "Only other roles of the platform may do this.")


def headers(settings: Settings) -> dict[str, str]:
    """What a role sends with its requests to such endpoints."""
    token = settings.internal_token
    return {} if token is None else {HEADER: token.get_secret_value()}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
