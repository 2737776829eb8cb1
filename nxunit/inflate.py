"""Raw inflate within a limit on the output, in one go or in pieces.

ISA-L does the common case, a whole stream that fits: it is twice as fast as zlib but cannot copy a half-done state.
Everything else is zlib's: a state is copied before each use, so that a repeated request starts from where the first
one did. zlib also has the last word on bad data, because its messages tell the three completion codes apart.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Protocol

from isal import isal_zlib

from nxunit.deflate import IsalError
from protocol.codes import CompletionCode

RAW = -zlib.MAX_WBITS
SLICE_BYTES = 16_384
"""How much source zlib gets at a time: what it leaves unread stays in a suspended state, so it must be small."""


class _Machine(Protocol):
    """zlib's decompression object."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, /, max_length: int = 0) -> bytes: ...
    def copy(self) -> _Machine: ...


class BadData(Exception):
    """The source is no deflate stream; `code` says what is wrong with it."""

    def __init__(self, code: CompletionCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class InflateState:
    """A decompression between two requests. `skip_bytes` of the next source are in it already."""

    machine: _Machine
    skip_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Inflated:
    """What became of one piece of source.

    `full`: the output limit stopped it. `ended`: the stream's end was reached after `consumed_bytes`. `state` is
    where to go on, None after the end.
    """

    target: bytes
    consumed_bytes: int
    ended: bool
    full: bool
    state: InflateState | None


def inflate(source: bytes | memoryview, history: bytes | memoryview, limit_bytes: int) -> Inflated:
    """Decompress from the start of a stream; its matches may reach into `history`.

    At most `limit_bytes` come out. Raises BadData.
    """
    whole = _inflate_whole(source, history, limit_bytes)
    if whole is not None:
        return whole
    machine = zlib.decompressobj(RAW, history) if history else zlib.decompressobj(RAW)
    return _advance(machine, source, limit_bytes)


def resume_inflate(state: InflateState, source: bytes | memoryview, limit_bytes: int) -> Inflated:
    """Go on from a state, which stays as it is. Raises BadData."""
    skip_bytes = min(state.skip_bytes, len(source))
    onward = _advance(state.machine.copy(), source[skip_bytes:], limit_bytes)
    consumed_bytes = onward.consumed_bytes + skip_bytes
    if onward.state is None:
        return Inflated(onward.target, consumed_bytes, onward.ended, onward.full, None)
    # A source shorter than what was to be skipped: the rest is skipped next time.
    still_to_skip = onward.state.skip_bytes + state.skip_bytes - skip_bytes
    if onward.full and consumed_bytes == len(source) and source:
        consumed_bytes, still_to_skip = consumed_bytes - 1, still_to_skip + 1
    return Inflated(
        onward.target, consumed_bytes, False, onward.full, InflateState(onward.state.machine, still_to_skip)
    )


def _inflate_whole(source: bytes | memoryview, history: bytes | memoryview, limit_bytes: int) -> Inflated | None:
    """The whole stream at ISA-L's speed; None where it does not end within the source and the limit."""
    machine = isal_zlib.decompressobj(RAW, history) if history else isal_zlib.decompressobj(RAW)
    try:
        target = machine.decompress(source, limit_bytes + 1)
    except IsalError:
        return None
    if not machine.eof or len(target) > limit_bytes:
        return None
    return Inflated(target, len(source) - len(machine.unused_data), True, False, None)


def _advance(machine: _Machine, source: bytes | memoryview, limit_bytes: int) -> Inflated:
    """Feed `source` to `machine` until it ends, the source is used up or the output is full.

    A full output with all source inside the machine gives the last byte back: it is to be sent again and skipped,
    so that a request that has more output to come always has source left, as on the hardware (SUBC).
    """
    pieces: list[bytes] = []
    room_bytes, position, full = limit_bytes, 0, False
    try:
        while not full and not machine.eof:
            piece = source[position : position + SLICE_BYTES]
            output, left_bytes, machine, full = _feed(machine, piece, room_bytes)
            pieces.append(output)
            room_bytes -= len(output)
            position += len(piece) - left_bytes
            if position >= len(source):
                break
    except zlib.error as error:
        raise BadData(_code_of(str(error)), str(error)) from None
    target = b"".join(pieces)
    if machine.eof:
        return Inflated(target, position, True, False, None)
    if full and position == len(source) and source:
        return Inflated(target, position - 1, False, True, InflateState(machine, 1))
    return Inflated(target, position, False, full, InflateState(machine))


def _feed(machine: _Machine, piece: bytes | memoryview, room_bytes: int) -> tuple[bytes, int, _Machine, bool]:
    """One slice: the output, the bytes of the slice left over, the machine to go on with, whether output is full.

    Output that ends exactly at the room may still be followed by nothing but the stream's end. A copy tries that:
    where it gives one byte more the room is full, otherwise the copy is the machine that got further.
    """
    output = machine.decompress(piece, room_bytes) if room_bytes else b""
    if room_bytes and (len(output) < room_bytes or machine.eof):
        return output, len(machine.unused_data), machine, False
    rest = machine.unconsumed_tail if room_bytes else piece
    further = machine.copy()
    if further.decompress(rest, 1):
        return output, len(rest), machine, True
    return output, len(further.unused_data), further, False


def _code_of(message: str) -> CompletionCode:
    """The completion code for zlib's complaint."""
    for code, fragments in _COMPLAINTS.items():
        if any(fragment in message for fragment in fragments):
            return code
    return CompletionCode.BAD_HUFFMAN_CODE


_COMPLAINTS = {
    CompletionCode.INVALID_DISTANCE: ("invalid distance too far back", "invalid distance code"),
    CompletionCode.INVALID_DHT: (
        "code lengths set", "bit length repeat", "missing end-of-block", "literal/lengths set", "distances set",
        "too many length or distance symbols",
    ),
}  # fmt: skip
"""Words of zlib's messages by completion code; block headers and literal codes are the remaining one."""
