"""Commands as bytes: records of fixed size per kind, in batches that are written and checked as one.

Batch: length of the records (u32), their CRC-32 (u32), the records. Record: kind (u8) and the fields of the
command in their order, little-endian; integers are 64 bits, enumerations one byte.
"""

from collections.abc import Iterable, Iterator
from struct import Struct, error
from typing import Final
from zlib import crc32

from app.exchange.commands import (
    AdvanceTime,
    Cancel,
    CancelAll,
    ChangePhase,
    Command,
    Place,
    PlaceOco,
    Replace,
    SetPriceBand,
)
from app.exchange.terms import OrderType, Phase, SelfTradePrevention, Side, TimeInForce

_PLACE: Final = Struct("<BqqqBBqqqBqB?")
_OCO: Final = Struct("<Bq")
_CANCEL: Final = Struct("<Bqqq")
_REPLACE: Final = Struct("<Bqqqqqq")
_CANCEL_ALL: Final = Struct("<Bqq")
_BAND: Final = Struct("<Bqqq")
_PHASE: Final = Struct("<BqBq")
_TIME: Final = Struct("<Bq")
_FRAME: Final = Struct("<II")

_PLACE_KIND: Final = 1
_OCO_KIND: Final = 2
_CANCEL_KIND: Final = 3
_REPLACE_KIND: Final = 4
_CANCEL_ALL_KIND: Final = 5
_BAND_KIND: Final = 6
_PHASE_KIND: Final = 7
_TIME_KIND: Final = 8

_pack_place: Final = _PLACE.pack
_pack_cancel: Final = _CANCEL.pack

_SIDES: Final = tuple(Side)
_TYPES: Final = tuple(OrderType)
_TIMES_IN_FORCE: Final = tuple(TimeInForce)
_PREVENTIONS: Final = tuple(SelfTradePrevention)
_PHASES: Final = tuple(Phase)


class JournalError(ValueError):
    """Bytes that are no command, or a command that has no bytes."""


def encode(command: Command) -> bytes:
    """One command as a record.

    Raises:
        JournalError: a number does not fit into 64 bits.
    """
    try:
        if isinstance(command, Place):
            return _encode_place(command)
        if isinstance(command, Cancel):
            return _pack_cancel(_CANCEL_KIND, command.time, command.order_id, command.account)
        return _encode_rare(command)
    except error as cause:
        raise JournalError(f"{command}: {cause}") from cause


def decode(records: bytes | memoryview) -> Iterator[Command]:
    """The commands of a batch.

    Raises:
        JournalError: the bytes are not what `encode` gave.
    """
    offset = 0
    try:
        while offset < len(records):
            command, offset = _decode_one(records, offset)
            yield command
    except (error, IndexError) as cause:
        raise JournalError(f"bad record at byte {offset}: {cause}") from cause


def pack_batch(records: Iterable[bytes]) -> bytes:
    """Records as one batch."""
    body = b"".join(records)
    return _FRAME.pack(len(body), crc32(body)) + body


def read_batches(journal: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Whole batches from the beginning: (offset behind the batch, its records).

    It ends at the first batch that is cut off or damaged: what a writer killed in the middle leaves behind.
    """
    view = memoryview(journal)
    offset = 0
    while len(view) - offset >= _FRAME.size:
        length, checksum = _FRAME.unpack_from(view, offset)
        start = offset + _FRAME.size
        body = view[start : start + length]
        if len(body) < length or crc32(body) != checksum:
            return
        offset = start + length
        yield offset, body


def _encode_place(order: Place) -> bytes:
    return _pack_place(
        _PLACE_KIND,
        order.time,
        order.order_id,
        order.account,
        order.side,
        order.order_type,
        order.quantity,
        order.price,
        order.stop_price,
        order.time_in_force,
        order.expires_at,
        order.self_trade_prevention,
        order.post_only,
    )


def _encode_rare(command: PlaceOco | Replace | CancelAll | SetPriceBand | ChangePhase | AdvanceTime) -> bytes:
    if isinstance(command, Replace):
        return _REPLACE.pack(
            _REPLACE_KIND,
            command.time,
            command.order_id,
            command.account,
            command.quantity,
            command.price,
            command.stop_price,
        )
    if isinstance(command, PlaceOco):
        pair = _encode_place(command.first) + _encode_place(command.second)
        return _OCO.pack(_OCO_KIND, command.time) + pair
    if isinstance(command, CancelAll):
        return _CANCEL_ALL.pack(_CANCEL_ALL_KIND, command.time, command.account)
    if isinstance(command, SetPriceBand):
        return _BAND.pack(_BAND_KIND, command.time, command.lower, command.upper)
    if isinstance(command, ChangePhase):
        return _PHASE.pack(_PHASE_KIND, command.time, command.phase, command.reference_price)
    return _TIME.pack(_TIME_KIND, command.time)


def _decode_one(records: bytes | memoryview, offset: int) -> tuple[Command, int]:
    """The command at an offset and the offset behind it."""
    kind = records[offset]
    if kind == _PLACE_KIND:
        return _decode_place(records, offset), offset + _PLACE.size
    if kind == _CANCEL_KIND:
        return Cancel(*_CANCEL.unpack_from(records, offset)[1:]), offset + _CANCEL.size
    if kind == _REPLACE_KIND:
        return Replace(*_REPLACE.unpack_from(records, offset)[1:]), offset + _REPLACE.size
    if kind == _OCO_KIND:
        time = _OCO.unpack_from(records, offset)[1]
        offset += _OCO.size
        second = offset + _PLACE.size
        pair = PlaceOco(time, _decode_place(records, offset), _decode_place(records, second))
        return pair, second + _PLACE.size
    if kind == _CANCEL_ALL_KIND:
        return CancelAll(*_CANCEL_ALL.unpack_from(records, offset)[1:]), offset + _CANCEL_ALL.size
    if kind == _BAND_KIND:
        return SetPriceBand(*_BAND.unpack_from(records, offset)[1:]), offset + _BAND.size
    if kind == _PHASE_KIND:
        _, time, phase, reference = _PHASE.unpack_from(records, offset)
        return ChangePhase(time, _PHASES[phase], reference), offset + _PHASE.size
    if kind == _TIME_KIND:
        return AdvanceTime(_TIME.unpack_from(records, offset)[1]), offset + _TIME.size
    raise JournalError(f"bad record at byte {offset}: unknown kind {kind}")


def _decode_place(records: bytes | memoryview, offset: int) -> Place:
    (
        kind,
        time,
        order_id,
        account,
        side,
        order_type,
        quantity,
        price,
        stop_price,
        time_in_force,
        expires_at,
        prevention,
        post_only,
    ) = _PLACE.unpack_from(records, offset)
    if kind != _PLACE_KIND:
        raise JournalError(f"bad record at byte {offset}: kind {kind} is no order")
    return Place(
        time,
        order_id,
        account,
        _SIDES[side],
        _TYPES[order_type],
        quantity,
        price,
        stop_price,
        _TIMES_IN_FORCE[time_in_force],
        expires_at,
        _PREVENTIONS[prevention],
        post_only,
    )
