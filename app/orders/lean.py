"""A route for the requests that have to be cheap: it is documented as any other, and answered by hand.

FastAPI would resolve the dependencies of each request anew and check the answer once more.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from app.kit.auth import Authenticator, Principal, require
from app.kit.problems import Problem
from app.orders.schemas import PlaceBody

MOST_BYTES = 16 * 1024
"""Of the body of one order."""
Handler = Callable[[Request, Principal, PlaceBody], Awaitable[Response]]
B = TypeVar("B", bound=BaseModel)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_may_trade = require("trade")


def answered_by(handler: Handler) -> Callable[[Endpoint], Endpoint]:
    """Decorator of an endpoint on a `LeanRoute`: its signature documents what `handler` takes and answers."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.lean = handler  # type: ignore[attr-defined]
        return endpoint

    return mark


class LeanRoute(APIRoute):
    """Calls the handler of its endpoint with who asks and the body, both checked."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handler: Handler = self.endpoint.lean  # type: ignore[attr-defined]

        async def handle(request: Request) -> Response:
            user = await _may_trade(await Authenticator.of(request.app).request(request))
            return await handler(request, user, await parsed(request, PlaceBody))

        return handle


async def parsed(request: Request, schema: type[B]) -> B:
    """The body of a request.

    Raises:
        RequestValidationError: it does not fit the schema.
        Problem: 413 `body-too-large`.
    """
    body = await request.body()
    if len(body) > MOST_BYTES:
        raise Problem(413, "body-too-large", f"An order has at most {MOST_BYTES} bytes.")
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        told = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(told) from None
