"""What a client may cost before its request is even known: bounds on the head of a request."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
"""Request line and headers together, beyond the piece they begin in."""
HEAD_SECONDS = 20.0
"""From the connection, or from the first byte of a later request, to the end of the headers."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which would read a head of any size and wait for it for ever."""

    _timer: asyncio.TimerHandle | None = None
    _in_head = False
    _head = 0
    _incoming = 0

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._incoming = len(data)
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The head of a request has at most {HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """A request begins within the bytes that are being read."""
        super().on_message_begin()
        self._in_head, self._head = True, -self._incoming
        if self._timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # The answer to the request before is still on its way, and the client waits for it.
            self._expect_head()
            return
        self._timer = None
        self.transport.close()
