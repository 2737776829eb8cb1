"""One block of a deflate stream at a time, from a bit within a byte to the bit after the block. Pure.

zlib can stop at the end of a stream but not of a block, and begins at a whole byte. Both are got from it by changing
bits of what it reads:
- With the first bit of the block's header (BFINAL) set, the stream ends where the block does.
- Bits of the first byte that belong to the block before are overwritten by the end of empty blocks, whose beginning is
  fed first.
It tells in which byte the block ended. The bit is the lowest one above which every bit of that byte can be flipped
without a change: the last bit of the block either is part of its end-of-block code, and flipped stands for another
symbol, or of a stored byte or length.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Protocol

RAW = -zlib.MAX_WBITS
WINDOW_BYTES = 1 << zlib.MAX_WBITS
BITS = 8

_FIXED = "0" + "10" + "0000000"
"""An empty block of type 1, its bits in the order of the stream: header and end-of-block code, 10 bits."""
_DYNAMIC = (
    "0" + "01"  # a block of type 2 that is not the last
    + "00000" + "00000" + "1111"  # 257 literal/length codes, 1 distance code, 19 code length codes
    + "000" * 2 + "100" + "000" * 14 + "100" + "000"  # of 16, 17, 18, 0, ..., 1, 15: 18 and 1 have one bit each
    + "1" "1111111" + "1" "1101011"  # 138 and 118 absent codes: those of all literals
    + "0" + "0"  # a code of one bit for the end of the block, and one for the distance that never comes
    + "0"  # the end of the block
)  # fmt: skip
"""An empty block of type 2, of an odd number of bits."""
_EMPTY_BLOCKS = (
    "", _DYNAMIC + 2 * _FIXED, _FIXED, _DYNAMIC + 3 * _FIXED, 2 * _FIXED, _DYNAMIC, 3 * _FIXED, _DYNAMIC + _FIXED,
)  # fmt: skip
"""Blocks without content by the bit of a byte before which they end."""


class Machine(Protocol):
    """zlib's decompression object, and what takes its place."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, /, max_length: int = 0) -> bytes: ...
    def copy(self) -> Machine: ...


@dataclass(frozen=True, slots=True)
class BlockStart:
    """The place between two blocks: the next one begins at `bit` (0 is the least significant) of the next byte.

    `window` is the output before it that matches may reach into, at most 32 KiB.
    """

    window: bytes = b""
    bit: int = 0

    def machine(self) -> Machine:
        """zlib, ready for the first byte as `onward` has it; it goes on to the end of the stream."""
        machine = zlib.decompressobj(RAW, self.window) if self.window else zlib.decompressobj(RAW)
        bits = _EMPTY_BLOCKS[self.bit]
        machine.decompress(_packed(bits[: len(bits) - self.bit]))
        return machine

    def onward(self, source: bytes | memoryview) -> bytes | memoryview:
        """The source with the bits before the block overwritten; needed once, for the first byte."""
        if not self.bit or not len(source):
            return source
        before = _packed(_EMPTY_BLOCKS[self.bit][-self.bit :])[0]
        return bytes((source[0] >> self.bit << self.bit | before,)) + bytes(source[1:])


class BlockReader:
    """Decompresses one block as zlib would a stream: `eof` is the end of the block.

    `is_last` is the block's own BFINAL, None before its first byte. `next_block` is where it ended.
    """

    def __init__(self, start: BlockStart) -> None:
        self.is_last: bool | None = None
        self.next_block: BlockStart | None = None
        self._start = start
        self._window = start.window
        self._machine = start.machine()
        self._before: Machine = self._machine
        self._last_byte = b""

    @property
    def eof(self) -> bool:
        return self._machine.eof

    @property
    def unused_data(self) -> bytes:
        return self._machine.unused_data

    @property
    def unconsumed_tail(self) -> bytes:
        return self._machine.unconsumed_tail

    def decompress(self, data: bytes | memoryview, /, max_length: int = 0) -> bytes:
        """The output of `data`, at most `max_length` bytes (0: all there are). Raises zlib.error."""
        data = self._without_end(data)
        earlier = self._machine.copy()
        output = self._machine.decompress(data, max_length)
        left = self._machine.unused_data if self._machine.eof else self._machine.unconsumed_tail
        taken_bytes = len(data) - len(left)
        if taken_bytes and (self._machine.eof or len(output) == max_length):
            # Only then can the end be in the last byte: zlib goes on as long as it has bits and room.
            earlier.decompress(data[: taken_bytes - 1])
            self._before, self._last_byte = earlier, bytes(data[taken_bytes - 1 : taken_bytes])
        self._window = (self._window + output)[-WINDOW_BYTES:]
        if self._machine.eof:
            self.next_block = BlockStart(self._window, _used_bits(self._before, self._last_byte[0]) % BITS)
        return output

    def copy(self) -> BlockReader:
        twin = object.__new__(BlockReader)
        twin.__dict__.update(self.__dict__)
        twin._machine = self._machine.copy()
        return twin

    def _without_end(self, data: bytes | memoryview) -> bytes | memoryview:
        """The first byte says whether the block is the last one, and is changed to say so in any case."""
        if self.is_last is not None or not len(data):
            return data
        self.is_last = bool(data[0] >> self._start.bit & 1)
        data = self._start.onward(data)
        return bytes((data[0] | 1 << self._start.bit,)) + bytes(data[1:])


def _packed(bits: str) -> bytes:
    """Bits in the order of a deflate stream as bytes: least significant first, the last byte filled up with 0."""
    padded = bits + "0" * (-len(bits) % BITS)
    return int(padded[::-1] or "0", 2).to_bytes(len(padded) // BITS, "little")


def _used_bits(before: Machine, last_byte: int) -> int:
    """How many bits of its last byte a block takes, 1 to 8. `before` has read all but that byte."""
    ended = _outcome(before, last_byte)
    for bit in reversed(range(BITS)):
        if _outcome(before, last_byte ^ 1 << bit) != ended:
            return bit + 1
    raise AssertionError("a block ends in the byte that ends it")


def _outcome(before: Machine, byte: int) -> bytes | None:
    """The output if the block ends with this byte, else None."""
    machine = before.copy()
    try:
        output = machine.decompress(bytes((byte,)))
    except zlib.error:
        return None
    return output if machine.eof else None
