"""How a request is signed with an API key; clients and server share this text.

Headers: `X-API-Key` (the key's id), `X-API-Timestamp` (Unix time in milliseconds), `X-API-Signature`
(hexadecimal), and if wanted `X-API-Window` (milliseconds for which the request is good, 5000 by default, at
most 60000) and `X-API-Nonce` (to tell apart requests that are alike within one millisecond).
"""

import hashlib
import hmac

PREFIX = "TRADESTACK-HMAC-SHA256"


def canonical(
    *, timestamp: str, window: str, nonce: str, method: str, path: str, query: str, body_sha256: str
) -> bytes:
    """What is signed: one field a line, each as it goes over the wire, a header that is not sent as nothing.

    Raises:
        ValueError: a field holds a line end, which would let one request read like another.
    """
    fields = (PREFIX, timestamp, window, nonce, method, path, query, body_sha256)
    if any("\n" in field for field in fields):
        raise ValueError("a field holds a line end")
    return "\n".join(fields).encode("latin-1")


def sign(secret: str, text: bytes) -> str:
    """The signature of a canonical text."""
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def is_signed(secret: str, text: bytes, signature: str) -> bool:
    """Whether the signature fits, told in constant time."""
    return hmac.compare_digest(sign(secret, text).encode(), signature.encode("latin-1", "replace"))


def headers(
    key: str,
    secret: str,
    *,
    timestamp_ms: int,
    method: str,
    path: str,
    query: str = "",
    body: bytes = b"",
    window_ms: int | None = None,
    nonce: str = "",
) -> dict[str, str]:
    """The headers of a signed request; `path` and `query` as they are sent, percent-encoded."""
    timestamp, window = str(timestamp_ms), "" if window_ms is None else str(window_ms)
    text = canonical(
        timestamp=timestamp,
        window=window,
        nonce=nonce,
        method=method,
        path=path,
        query=query,
        body_sha256=hashlib.sha256(body).hexdigest(),
    )
    given = {
        "x-api-key": key,
        "x-api-timestamp": timestamp,
        "x-api-window": window,
        "x-api-nonce": nonce,
        "x-api-signature": sign(secret, text),
    }
    return {name: value for name, value in given.items() if value}
