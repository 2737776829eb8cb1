"""Requests for the engine, and data of many kinds to put in them."""

from __future__ import annotations

import random
import zlib

from hypothesis import strategies as st

from nxunit.job import Completion, Job, Suspended
from protocol.codes import CompletionCode, FunctionCode
from protocol.paste_messages import Crb

FULL, PARTIAL, ERROR = 0x20, 0xA0, 0x60
ROOM = 4 << 20
TEXT = b"".join(b"window %d holds its credit until it is closed; " % (number * 7919 % 1000) for number in range(30_000))
NOISE = random.Random(1).randbytes(1 << 20)

KINDS = {
    "empty": b"",
    "one byte": b"a",
    "short text": TEXT[:60],
    "text": TEXT[:100_000],
    "a mebibyte of text": TEXT[: 1 << 20],
    "zeros": bytes(50_000),
    "short noise": NOISE[:100],
    "noise": NOISE[:70_000],
    "a mebibyte of noise": NOISE,
    "text then noise": TEXT[:20_000] + NOISE[:20_000],
}


def job(
    function: int,
    source: bytes = b"",
    *,
    history: bytes = b"",
    target_bytes: int = ROOM,
    crc32: int = 0,
    adler32: int = 1,
    final: bool = True,
    resume: bytes = b"",
    state: Suspended | None = None,
) -> Job:
    crb = Crb(
        function=function,
        target_bytes=target_bytes,
        history_bytes=len(history),
        crc32=crc32,
        adler32=adler32,
        final=final,
        resume=resume,
    )
    return Job(crb, history + source, state)


def resumed(source: bytes, state: Suspended | None, target_bytes: int = ROOM) -> Job:
    """The job of a request that goes on from a state."""
    return job(FunctionCode.DECOMPRESS_RESUME, source, target_bytes=target_bytes, resume=b"t" * 16, state=state)


def raw_deflate(data: bytes, level: int = 6, strategy: int = 0, history: bytes = b"") -> bytes:
    """A raw deflate stream made by zlib."""
    if history:
        machine = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy, history)
    else:
        machine = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return machine.compress(data) + machine.flush()


def raw_inflate(stream: bytes, history: bytes = b"") -> bytes:
    """What zlib makes of a stream that has ended."""
    machine = zlib.decompressobj(-15, history) if history else zlib.decompressobj(-15)
    data = machine.decompress(stream)
    assert machine.eof
    assert not machine.unused_data
    return data


def is_terminated(outcome: Completion, code: CompletionCode) -> bool:
    csb = outcome.csb
    return (csb.code, csb.extension, outcome.target, outcome.suspended) == (code, ERROR, b"", None)


@st.composite
def data(draw: st.DrawFn, most_segments: int = 4) -> bytes:
    """Bytes in runs, repeats, text and noise."""
    segments: list[bytes] = []
    for _ in range(draw(st.integers(0, most_segments))):
        kind = draw(st.sampled_from(("bytes", "repeat", "text", "noise")))
        if kind == "bytes":
            segments.append(draw(st.binary(max_size=50)))
        elif kind == "repeat":
            segments.append(draw(st.binary(min_size=1, max_size=8)) * draw(st.sampled_from((3, 90, 4_000))))
        else:
            start, size = draw(st.integers(0, 500_000)), draw(st.sampled_from((1, 200, 9_000, 40_000)))
            segments.append((TEXT if kind == "text" else NOISE)[start : start + size])
    return b"".join(segments)
