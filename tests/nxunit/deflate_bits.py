"""Deflate streams bit by bit (RFC 1951), apart from the engine: where blocks end, and streams made of blocks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from nxunit.deflate import BlockType

CODE_LENGTH_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
LENGTHS = [(3 + at, 0) for at in range(8)] + [
    (first + (at << extra), extra) for extra, first in ((1, 11), (2, 19), (3, 35), (4, 67), (5, 131)) for at in range(4)
]
LENGTHS[28:] = [(258, 0)]
DISTANCES = [(1, 0), (2, 0), (3, 0), (4, 0)]
for more in range(1, 14):
    DISTANCES += [((1 << more + 1) + 1 + (at << more), more) for at in range(2)]
FIXED = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its bits begin at `start` and end before `end`, its output ends at `output_end`."""

    kind: BlockType
    last: bool
    start: int
    end: int
    output_end: int


@dataclass(slots=True)
class Walk:
    """A reader of bits that writes the output. `found` are the blocks."""

    stream: bytes
    output: bytearray
    bit: int = 0
    found: list[Block] = field(default_factory=list)

    def take(self, count: int) -> int:
        """The next bits, the first one least significant."""
        value = 0
        for place in range(count):
            value |= (self.stream[self.bit >> 3] >> (self.bit & 7) & 1) << place
            self.bit += 1
        return value

    def symbol(self, codes: dict[tuple[int, int], int]) -> int:
        length = code = 0
        while (length, code) not in codes:
            length, code = length + 1, code << 1 | self.take(1)
        return codes[length, code]


def walk(stream: bytes, history: bytes = b"") -> list[Block]:
    """The blocks of a whole stream. Raises IndexError where it is cut off, ValueError or KeyError where it is bad."""
    reader = Walk(stream, bytearray(history))
    while not reader.found or not reader.found[-1].last:
        start, last, kind = reader.bit, bool(reader.take(1)), BlockType(reader.take(2))
        if kind is BlockType.STORED:
            _stored(reader)
        elif kind is BlockType.FIXED:
            _coded(reader, FIXED, [5] * 30)
        else:
            _coded(reader, *_table(reader))
        reader.found.append(Block(kind, last, start, reader.bit, len(reader.output) - len(history)))
    return reader.found


def _stored(reader: Walk) -> None:
    reader.bit = -(-reader.bit // 8) * 8
    count = reader.take(16)
    if count != reader.take(16) ^ 0xFFFF:
        raise ValueError("lengths that disagree")
    reader.output += bytes(reader.take(8) for _ in range(count))


def _table(reader: Walk) -> tuple[list[int], list[int]]:
    literals, distances, count = reader.take(5) + 257, reader.take(5) + 1, reader.take(4) + 4
    lengths = [0] * 19
    for place in CODE_LENGTH_ORDER[:count]:
        lengths[place] = reader.take(3)
    codes, told = _codes(lengths), list[int]()
    while len(told) < literals + distances:
        symbol = reader.symbol(codes)
        if symbol < 16:
            told.append(symbol)
        elif symbol == 16:
            told += [told[-1]] * (3 + reader.take(2))
        else:
            told += [0] * (3 + reader.take(3) if symbol == 17 else 11 + reader.take(7))
    return told[:literals], told[literals:]


def _codes(lengths: Sequence[int]) -> dict[tuple[int, int], int]:
    codes: dict[tuple[int, int], int] = {}
    code = 0
    for length in range(1, 16):
        for symbol in [symbol for symbol, its_length in enumerate(lengths) if its_length == length]:
            codes[length, code] = symbol
            code += 1
        code <<= 1
    return codes


def _coded(reader: Walk, literal_lengths: Sequence[int], distance_lengths: Sequence[int]) -> None:
    literals, distances = _codes(literal_lengths), _codes(distance_lengths)
    while (symbol := reader.symbol(literals)) != 256:
        if symbol < 256:
            reader.output.append(symbol)
            continue
        count, extra = LENGTHS[symbol - 257]
        count += reader.take(extra)
        distance, extra = DISTANCES[reader.symbol(distances)]
        distance += reader.take(extra)
        for _ in range(count):
            reader.output.append(reader.output[-distance])


# Streams of chosen blocks: strings of bits in the order of the stream.


def bits_of(stream: bytes, start: int = 0, end: int | None = None) -> str:
    return "".join(f"{byte:08b}"[::-1] for byte in stream)[start:end]


def packed(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def fixed_block(literals: bytes = b"") -> str:
    """A block of type 1, of literals."""
    codes = [f"{48 + each:08b}" if each < 144 else f"{400 + each - 144:09b}" for each in literals]
    return "010" + "".join(codes) + "0000000"


def dynamic_block(plain: bytes = b"") -> str:
    """A block of type 2: the one that zlib makes of a text, or an empty one."""
    if plain:
        machine = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
        whole = machine.compress(plain) + machine.flush()
        only = walk(whole)[0]
        assert (only.kind, only.last) == (BlockType.DYNAMIC, True), "expected a text that becomes one dynamic block"
        return "0" + bits_of(whole, 1, only.end)
    # 18 code lengths, of which those of the symbols 18 and 1 are 1, so that their codes are 1 and 0. Then 256 times 0,
    # as 138 and 118, and twice 1: the end of the block has the code 0.
    lengths = "000" * 2 + "100" + "000" * 14 + "100"
    zeros = "1" + f"{138 - 11:07b}"[::-1] + "1" + f"{118 - 11:07b}"[::-1]
    return "001" + "00000" + "00000" + f"{18 - 4:04b}"[::-1] + lengths + zeros + "0" + "0" + "0"


def stream_of(blocks: Sequence[str | bytes]) -> bytes:
    """A stream of blocks: bits as they are, bytes as a stored block. The last one is marked so."""
    bits = ""
    for number, block in enumerate(blocks):
        last = "1" if number == len(blocks) - 1 else "0"
        if isinstance(block, str):
            bits += last + block[1:]
            continue
        bits += last + "00"
        bits += "0" * (-len(bits) % 8)
        bits += bits_of(len(block).to_bytes(2, "little") + (len(block) ^ 0xFFFF).to_bytes(2, "little") + block)
    return packed(bits)
