"""Raw inflate within a limit on the output, in one go or in pieces.

ISA-L does the common case, a whole stream that fits: it is twice as fast as zlib but cannot copy a half-done state.
Everything else is zlib's: a state is copied before each use, so that a repeated request starts from where the first
one did. zlib also has the last word on bad data, because its messages tell the three completion codes apart.

A decompression by blocks stops after each (nxunit/blocks.py). It can be resumed either way, one that was not by blocks
only as it was begun: where the block ends in which it stands is not known.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

from isal import isal_zlib

from nxunit.blocks import RAW, BlockReader, BlockStart, Machine
from nxunit.deflate import IsalError
from protocol.codes import CompletionCode

SLICE_BYTES = 16_384
"""How much source zlib gets at a time: what it leaves unread stays in a suspended state, so it must be small."""


class BadData(Exception):
    """The source is no deflate stream; `code` says what is wrong with it."""

    def __init__(self, code: CompletionCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class InflateState:
    """A decompression between two requests. `skip_bytes` of the next source are in it already."""

    machine: Machine | BlockStart
    skip_bytes: int = 0

    @property
    def is_by_blocks(self) -> bool:
        """Whether it can go on to the end of a block."""
        return isinstance(self.machine, BlockStart | BlockReader)


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

    @property
    def block_ended(self) -> bool:
        """Whether it stopped between two blocks."""
        return self.state is not None and isinstance(self.state.machine, BlockStart)


def inflate(
    source: bytes | memoryview, history: bytes | memoryview, limit_bytes: int, *, by_block: bool = False
) -> Inflated:
    """Decompress from the start of a stream; its matches may reach into `history`.

    At most `limit_bytes` come out, and with `by_block` no more than one block. Raises BadData.
    """
    if by_block:
        return _read_block(InflateState(BlockStart(bytes(history))), source, limit_bytes)
    whole = _inflate_whole(source, history, limit_bytes)
    if whole is not None:
        return whole
    return _advance(BlockStart(bytes(history)).machine(), source, limit_bytes)


def resume_inflate(
    state: InflateState, source: bytes | memoryview, limit_bytes: int, *, by_block: bool = False
) -> Inflated:
    """Go on from a state, which stays as it is. Raises BadData, and ValueError for a block of a state not by blocks."""
    if by_block:
        return _read_block(state, source, limit_bytes)
    if isinstance(state.machine, BlockReader):
        return _read_on(state, source, limit_bytes)
    skip_bytes = min(state.skip_bytes, len(source))
    onward = _go_on(state.machine, source[skip_bytes:], limit_bytes)
    consumed_bytes = onward.consumed_bytes + skip_bytes
    if onward.state is None:
        if skip_bytes < state.skip_bytes:
            return _short_of_the_end(state, source)
        return Inflated(onward.target, consumed_bytes, onward.ended, onward.full, None)
    # A source shorter than what was to be skipped: the rest is skipped next time.
    still_to_skip = onward.state.skip_bytes + state.skip_bytes - skip_bytes
    if onward.full and consumed_bytes == len(source) and source:
        consumed_bytes, still_to_skip = consumed_bytes - 1, still_to_skip + 1
    return Inflated(
        onward.target, consumed_bytes, False, onward.full, InflateState(onward.state.machine, still_to_skip)
    )


def _short_of_the_end(state: InflateState, source: bytes | memoryview) -> Inflated:
    """The stream ends in a byte that was given back and is still to come again: it is over when that is here."""
    return Inflated(b"", len(source), False, False, replace(state, skip_bytes=state.skip_bytes - len(source)))


def _go_on(machine: Machine | BlockStart, source: bytes | memoryview, limit_bytes: int) -> Inflated:
    if not isinstance(machine, BlockStart):
        return _advance(machine.copy(), source, limit_bytes)
    onward = _advance(machine.machine(), machine.onward(source), limit_bytes)
    if onward.state is not None and not onward.consumed_bytes + onward.state.skip_bytes:
        return replace(onward, state=InflateState(machine))  # Its first byte is still to come.
    return onward


def _read_on(state: InflateState, source: bytes | memoryview, limit_bytes: int) -> Inflated:
    """To the end of the block that the state stands in, and on from there."""
    block = _read_block(state, source, limit_bytes)
    if block.state is None or not isinstance(block.state.machine, BlockStart):
        return block
    rest = resume_inflate(block.state, source[block.consumed_bytes :], limit_bytes - len(block.target))
    consumed_bytes = block.consumed_bytes + rest.consumed_bytes
    return replace(rest, target=block.target + rest.target, consumed_bytes=consumed_bytes)


def _read_block(state: InflateState, source: bytes | memoryview, limit_bytes: int) -> Inflated:
    """To the end of a block at most.

    A byte that the next block begins in is given back: it is to be sent again, as on the hardware (SUBC). So is the
    last byte taken when the output is full, because the block's end may be in it.
    """
    if isinstance(state.machine, BlockStart):
        reader = BlockReader(state.machine)
    elif isinstance(state.machine, BlockReader):
        reader = state.machine.copy()
    else:
        raise ValueError("expected a state of a decompression by blocks")
    pumped = _pump(reader, source[state.skip_bytes :], limit_bytes)
    place, position = pumped.machine, state.skip_bytes + pumped.taken_bytes
    assert isinstance(place, BlockReader)
    if place.next_block is None:
        consumed_bytes = min(position - (pumped.full and position > 0), len(source))
        return Inflated(
            pumped.target, consumed_bytes, False, pumped.full, InflateState(place, position - consumed_bytes)
        )
    if place.is_last:
        if position > len(source):
            return _short_of_the_end(state, source)
        return Inflated(pumped.target, position, True, False, None)
    position -= place.next_block.bit > 0
    consumed_bytes = min(position, len(source))
    return Inflated(
        pumped.target, consumed_bytes, False, False, InflateState(place.next_block, position - consumed_bytes)
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


def _advance(machine: Machine, source: bytes | memoryview, limit_bytes: int) -> Inflated:
    """Feed `source` to `machine` until it ends, the source is used up or the output is full.

    A full output with all source inside the machine gives the last byte back: it is to be sent again and skipped,
    so that a request that has more output to come always has source left, as on the hardware (SUBC).
    """
    pumped = _pump(machine, source, limit_bytes)
    position = pumped.taken_bytes
    if pumped.machine.eof:
        return Inflated(pumped.target, position, True, False, None)
    if pumped.full and position == len(source) and source:
        return Inflated(pumped.target, position - 1, False, True, InflateState(pumped.machine, 1))
    return Inflated(pumped.target, position, False, pumped.full, InflateState(pumped.machine))


@dataclass(frozen=True, slots=True)
class _Pumped:
    """What came of a source, and the machine to go on with."""

    target: bytes
    taken_bytes: int
    machine: Machine
    full: bool


def _pump(machine: Machine, source: bytes | memoryview, limit_bytes: int) -> _Pumped:
    """Slice by slice, until the machine ends, the source is used up or the output is full."""
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
    return _Pumped(b"".join(pieces), position, machine, full)


def _feed(machine: Machine, piece: bytes | memoryview, room_bytes: int) -> tuple[bytes, int, Machine, bool]:
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
