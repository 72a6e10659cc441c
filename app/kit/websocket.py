"""Reading what WebSocket clients send: frames put together into messages, within bounds."""

import asyncio
import logging
from typing import cast

from picows import WSCloseCode, WSFrame, WSMsgType, WSTransport

LOGGER = logging.getLogger("picows.server")
"""For the library's servers; that a stranger breaks the protocol is no error of ours."""
LOGGER.addFilter(lambda record: not record.msg.startswith("WS parser error"))
_DATA = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION})


class Refused(Exception):
    """A client broke the rules of the protocol: its connection is to be closed with `code` and `reason`."""

    def __init__(self, code: WSCloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class MessageReader:
    """Puts the frames of one connection together.

    `most_bytes` bounds a message in however many fragments, `most_frames` the data frames of one second.
    """

    __slots__ = ("_fragments", "_frames", "_most_bytes", "_most_frames", "_second")

    def __init__(self, most_bytes: int, most_frames: int) -> None:
        self._most_bytes = most_bytes
        self._most_frames = most_frames
        self._fragments: bytes | None = None
        """The message so far, of which more is to come."""
        self._second = 0.0
        self._frames = 0

    def take(self, transport: WSTransport, frame: WSFrame) -> str | None:
        """The text of a message that this frame completes; None for every other frame.

        The client's close is answered here; control frames need nothing else, and after our own close data
        is passed over.

        Raises:
            Refused: with 1002, 1003, 1007, 1008 or 1009.
        """
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            if not transport.is_close_frame_sent:
                transport.send_close(frame.get_close_code() if frame.payload_size else WSCloseCode.OK)
            transport.disconnect()
            return None
        if transport.is_close_frame_sent or kind not in _DATA:
            return None
        self._count()
        if kind == WSMsgType.BINARY:
            raise Refused(WSCloseCode.UNSUPPORTED_DATA, "messages are text")
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise Refused(WSCloseCode.PROTOCOL_ERROR, "no extension was agreed on")
        if (kind == WSMsgType.CONTINUATION) != (self._fragments is not None):
            raise Refused(WSCloseCode.PROTOCOL_ERROR, "fragments of a message follow each other")
        message = (self._fragments or b"") + frame.get_payload_as_bytes()
        if len(message) > self._most_bytes:
            raise Refused(WSCloseCode.MESSAGE_TOO_BIG, f"a message has at most {self._most_bytes} bytes")
        if not frame.fin:
            self._fragments = message
            return None
        self._fragments = None
        try:
            return message.decode()
        except UnicodeDecodeError:
            raise Refused(WSCloseCode.INVALID_TEXT, "text is UTF-8") from None

    def _count(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._second >= 1:
            self._second, self._frames = now, 0
        self._frames += 1
        if self._frames > self._most_frames:
            raise Refused(WSCloseCode.POLICY_VIOLATION, f"at most {self._most_frames} messages in a second")


def close_code(number: WSCloseCode | int) -> WSCloseCode:
    """A code for `send_close`, which only knows those of the standard by name; ours are 4000 to 4999."""
    return cast(WSCloseCode, number)
