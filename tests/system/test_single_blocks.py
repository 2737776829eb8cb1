"""A client decompresses by single blocks (functions 0x12 and 0x16) through kernel, hypervisor and NX unit."""

from __future__ import annotations

import zlib

from lpar.client import Request
from protocol.codes import CompletionCode, FunctionCode
from protocol.system import parse_system
from tests.processes.cluster import SYSTEM
from tests.system.story import booted, settle_and_compare

PARTS = [b"first part, " * 400, b"second part, " * 400, b"third part, " * 400]


def blocks() -> tuple[bytes, int]:
    """A stream that is flushed within a byte after each part, and how many blocks that makes at least."""
    machine = zlib.compressobj(6, zlib.DEFLATED, -15)
    pieces = [machine.compress(part) + machine.flush(zlib.Z_BLOCK) for part in PARTS]
    return b"".join(pieces) + machine.flush(), len(PARTS)


def test_a_client_gets_a_stream_block_by_block() -> None:
    system = booted(parse_system(SYSTEM, "test system"), 1)
    with system.client("lp1").open_window() as window:
        stream, least = blocks()
        function, position, outputs, resume, crc32 = FunctionCode.DECOMPRESS_SINGLE_BLOCK, 0, list[bytes](), b"", 0
        ended = False
        while not ended:
            csb = window.run(Request(function, stream[position:], 1 << 20, resume=resume, crc32=crc32))
            outputs.append(csb.target)
            position, resume, crc32, ended = position + csb.processed_bytes, csb.resume, csb.crc32, csb.ended
            assert csb.code is (CompletionCode.OK if ended else CompletionCode.DATA_LENGTH)
            assert csb.is_partial is not ended
            function = FunctionCode.DECOMPRESS_RESUME_SINGLE_BLOCK
    assert outputs[: len(PARTS)] == PARTS
    assert len(outputs) > least
    assert (position, crc32) == (len(stream), zlib.crc32(b"".join(PARTS)))
    settle_and_compare(system)
