"""HTTP requests from one role to another."""

import ssl

import httpx

_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)
"""What httpx has by default."""


def role_client(timeout: float | httpx.Timeout, limits: httpx.Limits = _LIMITS) -> httpx.AsyncClient:
    """A client for other roles, `timeout` in seconds; to be closed by its owner.

    Roles are reached by plain HTTP and without a proxy, so neither the machine's CA bundle is read, which
    takes 30 ms, nor its environment. Redirects are not followed.
    """
    return httpx.AsyncClient(
        timeout=timeout,
        limits=limits,
        trust_env=False,
        follow_redirects=False,
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
