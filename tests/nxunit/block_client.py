"""A client that decompresses by single blocks and checks each answer against a bit-exact reading of the stream."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from nxunit.blocks import BlockStart
from nxunit.engine import Engine
from nxunit.inflate import InflateState
from nxunit.job import Job, Suspended
from protocol.codes import CompletionCode, FunctionCode
from tests.nxunit.deflate_bits import Block, dynamic_block, walk
from tests.nxunit.jobs import FULL, PARTIAL, TEXT, job

LIMIT = 1 << 20
ENGINE = Engine(LIMIT)
ONE_BLOCK, RESUME_BLOCK = FunctionCode.DECOMPRESS_SINGLE_BLOCK, FunctionCode.DECOMPRESS_RESUME_SINGLE_BLOCK
TEXT_BLOCK = dynamic_block(TEXT[:1_500])
FLUSHES = (zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK)


def flushed(plain: bytes, level: int, flush: int, parts: int = 5, strategy: int = 0) -> bytes:
    """A stream by zlib that is flushed several times."""
    machine = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    size = len(plain) // parts + 1
    pieces = [machine.compress(plain[at : at + size]) + machine.flush(flush) for at in range(0, len(plain), size)]
    return b"".join(pieces) + machine.flush()


def place_of(state: Suspended | None) -> BlockStart | None:
    """The place between two blocks where a decompression stands; None in the middle of one."""
    assert isinstance(state, InflateState)
    return state.machine if isinstance(state.machine, BlockStart) else None


@dataclass(slots=True)
class Client:
    """Hands over pieces of a stream and resends what was not processed. `stops` are the bits where it stood between
    blocks, with the length of the output there; `ends` are those that a bit-exact reading of the stream finds.
    """

    stream: bytes
    engine: Engine = ENGINE
    output: bytes = b""
    position: int = 0
    crc32: int = 0
    state: Suspended | None = None
    stops: list[tuple[int, int]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    turns: int = 0
    over: bool = False

    @property
    def ends(self) -> list[tuple[int, int]]:
        self.blocks = self.blocks or walk(self.stream)
        return [(block.end, block.output_end) for block in self.blocks if not block.last]

    def ask(self, source_bytes: int, *, whole: bool = False, low: int = 0) -> None:
        """One request, computed twice; what must hold of every answer is checked here."""
        first = self.state is None
        function = ONE_BLOCK if first else FunctionCode.DECOMPRESS_RESUME if whole else RESUME_BLOCK
        request = job(function | low, crc32=self.crc32, resume=b"" if first else b"t" * 16)
        piece = self.stream[self.position : self.position + source_bytes]
        request = Job(request.crb, piece, self.state)
        outcome, again = self.engine.complete(request), self.engine.complete(request)
        csb = outcome.csb
        assert (again.csb, again.target) == (csb, outcome.target)
        assert csb.processed_bytes <= len(piece)
        before = len(self.output)
        self.output, self.position, self.crc32 = (
            self.output + outcome.target,
            self.position + csb.processed_bytes,
            csb.crc32,
        )
        self.turns += 1
        if csb.ended:
            assert (csb.code, csb.extension) == (CompletionCode.OK, FULL)
            self.over = True
            return
        assert (csb.code, csb.extension) == (CompletionCode.DATA_LENGTH, PARTIAL)
        low_bytes = self.engine.low_limit_bytes if low else LIMIT
        limit_bytes = min(low_bytes, self.engine.request_limit_bytes)
        place = place_of(outcome.suspended)
        assert outcome.suspended is not None
        if place is not None:
            self.stops.append((8 * (self.position + outcome.suspended.skip_bytes) + place.bit, len(self.output)))
        elif csb.processed_bytes < len(piece):
            assert csb.target_bytes == limit_bytes, "it stopped in a block that is not at an end, with source left"
        if not whole:
            crossed = [end for _, end in self.ends if before < end < len(self.output)]
            assert not crossed, "more than one block"
        self.state = outcome.suspended


def by_blocks(stream: bytes) -> Client:
    """The whole stream, all of the rest handed over each time."""
    client = Client(stream)
    while not client.over:
        client.ask(len(stream))
    assert client.stops == client.ends
    assert client.position == len(stream)
    assert client.output == zlib.decompress(stream, -15)
    assert client.crc32 == zlib.crc32(client.output)
    return client
