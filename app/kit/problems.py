"""Errors as problem documents (RFC 9457) with a stable code."""

from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An error that the caller of an endpoint is told about."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.headers = headers or {}
        self.members = members
        """Further members of the document, such as `errors`."""

    def document(self) -> bytes:
        """The body as JSON."""
        return orjson.dumps(
            {
                "type": f"urn:tradestack:problem:{self.code}",
                "title": HTTPStatus(self.status).phrase,
                "status": self.status,
                "code": self.code,
                "detail": str(self),
                **self.members,
            }
        )

    def response(self) -> Response:
        """The HTTP answer."""
        return Response(self.document(), self.status, self.headers, MEDIA_TYPE)
