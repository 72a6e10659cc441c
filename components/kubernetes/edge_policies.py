"""What Envoy Gateway is told about clients and backends: the specs of its policies (v1alpha1, as of v1.9)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

COOKIE = "TRADING_AFFINITY"
"""Cookie that keeps a client at one pod of a sticky backend (seed 000, section 7.2)."""
COOKIE_SECONDS = 172_800
"""Two days (seed 000, section 7.2)."""
HEALTH_PATH = "/edge/healthz"
"""Envoy itself answers 200 here, and 503 once it drains."""
HIDDEN = ("/internal", "/livez", "/metrics", "/openapi.json", "/readyz")
"""Paths that every role answers and nobody outside may read."""
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS")
"""Methods of requests from other origins (seed 000, section 7.2); PATCH has no endpoint."""
HEADERS = (
    "DNT",
    "X-CustomHeader",
    "Keep-Alive",
    "User-Agent",
    "X-Requested-With",
    "If-Modified-Since",
    "Cache-Control",
    "Content-Type",
    "Authorization",
    "X-API-Key",
    "X-API-Nonce",
    "X-API-Signature",
    "X-API-Timestamp",
    "X-API-Window",
)
"""Headers of requests from other origins: those of seed 000, section 7.2, and those of the app's API keys."""

_EXPOSED = ("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-Id")
_EVERYONE = "0.0.0.0/0"
_CORS_AGE = "1h"
_HEADER_SECONDS = 10
"""From the first byte of a request to the end of its headers: a client that drips them is cut off."""
_RECEIVE_SECONDS = 30
"""For the whole request; the gateway gives a body as long."""
_STREAM_SECONDS = 60
"""Quiet seconds of a request that no route gives more to."""
_HANDSHAKE_SECONDS = 10
_ANSWER_SECONDS = 35
"""For the whole answer: the gateway gives up after 30 s and says why, so it must come first."""
_CONNECT_SECONDS = 2
_CHECK_SECONDS = 3

_SPOOFABLE = (
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
)
"""Headers by which a client could pass for another, or its request for one to another place."""

_REFUSALS = {
    400: ("bad-request", "The request cannot be read."),
    403: ("forbidden", "This address may not be reached from where you are."),
    408: ("request-timeout", "The request takes too long."),
    413: ("body-too-large", "The body is too large."),
    429: ("rate-limited", "Too many requests from your address; try again in a second."),
    431: ("headers-too-large", "The headers are too large."),
    502: ("bad-gateway", "The service broke the connection."),
    503: ("unavailable", "The service does not answer now; try again."),
    504: ("gateway-timeout", "The service took too long."),
}
"""What Envoy itself answers, as problem documents like those of the app (RFC 9457)."""
_RETRY_AFTER = frozenset({429, 503})


@dataclass(frozen=True)
class Limits:
    """How much one client, and all of them together, may ask of one Envoy."""

    requests_per_second: int
    """Requests of one address in a second on one route; more are answered 429."""
    total_connections: int
    """Open connections of all clients together; more are closed at once."""
    websocket_seconds: int
    """Quiet seconds after which a WebSocket is closed."""


def client_policy(
    limits: Limits, *, hops: int, idle_seconds: int, hsts_seconds: int | None
) -> dict[str, Any]:
    """What is accepted of clients at one listener; spec of a ClientTrafficPolicy without its target.

    `hops` is the number of our own proxies in front of Envoy. `hsts_seconds` is given for HTTPS only.
    """
    removed = list(_SPOOFABLE)
    if hops == 0:
        # Nobody before Envoy writes it, so that whatever stands there is the client's invention.
        removed.append("x-forwarded-for")
    headers: dict[str, Any] = {
        "withUnderscoresAction": "RejectRequest",
        "requestID": "Generate",
        "earlyRequestHeaders": {
            "remove": removed,
            # They steer retries and timeouts; behind another proxy Envoy would take them from anyone.
            "removeOnMatch": [{"type": "Prefix", "value": "x-envoy-"}],
        },
    }
    spec: dict[str, Any] = {
        "headers": headers,
        "path": {"escapedSlashesAction": "RejectRequest", "disableMergeSlashes": False},
        "timeout": {
            "tcp": {"connectionInspectionTimeout": f"{_HANDSHAKE_SECONDS}s"},
            "http": {
                "requestHeadersReceivedTimeout": f"{_HEADER_SECONDS}s",
                "requestReceivedTimeout": f"{_RECEIVE_SECONDS}s",
                "idleTimeout": duration(idle_seconds),
                "streamIdleTimeout": f"{_STREAM_SECONDS}s",
            },
        },
        "connection": {
            "connectionLimit": {"value": limits.total_connections},
            # As many as wait: one at a time lets a flood keep everyone else in the queue.
            "maxAcceptPerSocketEvent": 0,
        },
        "tcpKeepalive": {"probes": 3, "idleTime": "60s", "interval": "10s"},
        "http2": {
            "maxConcurrentStreams": 100,
            "initialStreamWindowSize": "64Ki",
            "initialConnectionWindowSize": "1Mi",
            "onInvalidMessage": "TerminateConnection",
        },
        "healthCheck": {"path": HEALTH_PATH},
    }
    if hops:
        spec["clientIPDetection"] = {"xForwardedFor": {"numTrustedHops": hops}}
    if hsts_seconds is not None:
        headers["lateResponseHeaders"] = {
            "set": [{"name": "Strict-Transport-Security", "value": f"max-age={hsts_seconds}"}]
        }
        spec["timeout"]["tcp"]["tlsHandshakeTimeout"] = f"{_HANDSHAKE_SECONDS}s"
        spec["tls"] = {"minVersion": "1.2", "alpnProtocols": ["h2", "http/1.1"]}
    return spec


def backend_policy(limits: Limits, *, sticky: bool, secure: bool) -> dict[str, Any]:
    """How requests of one route reach their backend; spec of a BackendTrafficPolicy without its target.

    A `sticky` backend gets all requests of a client at one pod; browsers send the cookie for it over HTTPS
    alone when `secure`.
    """
    return {
        "rateLimit": _rate_limit(limits),
        "loadBalancer": _sticky(secure) if sticky else {"type": "LeastRequest"},
        "timeout": {
            "tcp": {"connectTimeout": f"{_CONNECT_SECONDS}s"},
            "http": {
                # An open WebSocket is an answer without end. The others are bounded by the first of these.
                "requestTimeout": "0s" if sticky else f"{_ANSWER_SECONDS}s",
                "streamIdleTimeout": duration(limits.websocket_seconds),
            },
        },
        # Only what surely has not been acted upon: an order must not be placed twice.
        "retry": {
            "numRetries": 2,
            "retryOn": {"triggers": ["connect-failure", "refused-stream", "reset-before-request"]},
            "perRetry": {"backOff": {"baseInterval": "25ms", "maxInterval": "250ms"}},
        },
        # Envoy's own 1024 would end all WebSockets beyond.
        "circuitBreaker": {
            "maxConnections": limits.total_connections if sticky else 1024,
            "maxParallelRequests": limits.total_connections if sticky else 1024,
            "maxPendingRequests": 1024,
            "maxParallelRetries": 16,
        },
        "healthCheck": {
            "active": {
                "type": "HTTP",
                "http": {"path": "/readyz", "expectedStatuses": [200]},
                "interval": f"{_CHECK_SECONDS}s",
                "timeout": "1s",
                "unhealthyThreshold": 2,
                "healthyThreshold": 1,
            },
            "passive": {
                # A 503 of the gateway is about a role behind it: only who cannot be reached is left out.
                "splitExternalLocalOriginErrors": True,
                "consecutiveLocalOriginFailures": 5,
                "consecutive5XxErrors": 0,
                "interval": "5s",
                "baseEjectionTime": "10s",
                "maxEjectionPercent": 50,
            },
        },
        "responseOverride": _refusals(),
    }


def security_policy(origins: Sequence[str], clients: Sequence[str]) -> dict[str, Any] | None:
    """Who may ask: web pages of `origins`, addresses in `clients`; None when there is nothing to check."""
    spec: dict[str, Any] = {}
    if origins:
        spec["cors"] = {
            "allowOrigins": list(origins),
            "allowMethods": list(METHODS),
            "allowHeaders": list(HEADERS),
            "exposeHeaders": list(_EXPOSED),
            # The default of the controller that seed 000 names; origins are never wildcards.
            "allowCredentials": True,
            "maxAge": _CORS_AGE,
        }
    if _EVERYONE not in clients:
        spec["authorization"] = only_from(clients)
    return spec or None


def only_from(networks: Sequence[str]) -> dict[str, Any]:
    """Authorization of clients in `networks`; everyone else is answered 403."""
    return {
        "defaultAction": "Deny",
        "rules": [{"name": "networks", "action": "Allow", "principal": {"clientCIDRs": list(networks)}}],
    }


def not_found() -> dict[str, Any]:
    """Spec of an HTTPRouteFilter that answers as if nothing were there."""
    body = _problem(404, "not-found", "Nothing is served here.")
    return {
        "directResponse": {
            "statusCode": 404,
            "contentType": "application/problem+json",
            "body": {"type": "Inline", "inline": body},
        }
    }


def duration(seconds: int) -> str:
    """`seconds` as the Gateway API writes it: at most five digits before a unit."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _rate_limit(limits: Limits) -> dict[str, Any]:
    """A token bucket for every address, at each Envoy by itself."""
    every_address = {"sourceCIDR": {"type": "Distinct", "value": _EVERYONE, "invert": False}}
    limit = {"requests": limits.requests_per_second, "unit": "Second"}
    return {"local": {"rules": [{"clientSelectors": [every_address], "limit": limit}]}}


def _sticky(secure: bool) -> dict[str, Any]:
    attributes = {"SameSite": "Strict", "Path": "/"} | ({"Secure": ""} if secure else {})
    cookie = {"name": COOKIE, "ttl": duration(COOKIE_SECONDS), "attributes": attributes}
    return {"type": "ConsistentHash", "consistentHash": {"type": "Cookie", "cookie": cookie}}


def _refusals() -> list[dict[str, Any]]:
    found = []
    for status, (code, detail) in _REFUSALS.items():
        response: dict[str, Any] = {
            "contentType": "application/problem+json",
            "body": {"type": "Inline", "inline": _problem(status, code, detail)},
        }
        if status in _RETRY_AFTER:
            response["header"] = {"set": [{"name": "Retry-After", "value": "1"}]}
        match = {"statusCodes": [{"type": "Value", "value": status}]}
        found.append({"match": match, "source": "Local", "response": response})
    return found


def _problem(status: int, code: str, detail: str) -> str:
    document = {
        "type": f"urn:tradestack:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return json.dumps(document, separators=(",", ":"))
