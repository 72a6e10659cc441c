"""A route for the requests that have to be cheap: it is documented as any other, and answered by hand.

FastAPI would resolve the dependencies of each request anew and check the answer once more; and its layers of
middleware cost more than all the rest of such a request, so it is answered before them.
"""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.kit import logs
from app.kit.auth import Authenticator, Principal, require
from app.kit.problems import Problem
from app.kit.runtime import Runtime
from app.kit.web import Observed
from app.orders.schemas import PlaceBody

MOST_BYTES = 16 * 1024
"""Of the body of one order."""
Handler = Callable[[Request, Principal, PlaceBody], Awaitable[Response]]
_may_trade = require("trade")
_log = logs.get(__name__)


def before_all(app: FastAPI, runtime: Runtime, path: str, handler: Handler) -> ASGIApp:
    """`app` with POST requests of one path answered before its layers, errors by its own handlers.

    `handler` is the endpoint of that path; it gets the request, who asks and the body, both checked.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"], scope["metric_route"] = app, path
        request = Request(scope, receive)
        try:
            user = await _may_trade(await Authenticator.of(app).request(request))
            response = await handler(request, user, await _body(request))
        except Exception as error:
            response = await _told(app, request, error)
        await response(scope, receive, send)

    observed = Observed(answer, runtime)

    async def lane(scope: Scope, receive: Receive, send: Send) -> None:
        is_lean = scope["type"] == "http" and scope["path"] == path and scope["method"] == "POST"
        await (observed if is_lean else app)(scope, receive, send)

    return lane


async def _told(app: FastAPI, request: Request, error: Exception) -> Response:
    """What the handlers of an application make of an error."""
    for kind in type(error).__mro__:
        if kind is Exception:
            _log.exception("request failed")
        if kind in app.exception_handlers:
            told = app.exception_handlers[kind](request, error)
            return await told if isinstance(told, Awaitable) else told
    raise error


async def _body(request: Request) -> PlaceBody:
    """The body of a request.

    Raises:
        RequestValidationError: it does not fit the schema.
        Problem: 413 `body-too-large`.
    """
    body = await request.body()
    if len(body) > MOST_BYTES:
        raise Problem(413, "body-too-large", f"An order has at most {MOST_BYTES} bytes.")
    try:
        return PlaceBody.model_validate_json(body)
    except ValidationError as error:
        told = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(told) from None
