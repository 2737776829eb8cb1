"""Properties of the engine over requests of every kind, sensible or not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nxunit.engine import Engine
from nxunit.job import Job
from protocol.codes import FunctionCode
from protocol.paste_messages import Crb
from tests.nxunit.jobs import ERROR, FULL, PARTIAL, data, job, raw_deflate

LIMIT = 1 << 20
ENGINE = Engine(LIMIT)
RESUMING = [code for code in FunctionCode if code.compresses and code.resumes]


@settings(deadline=None, max_examples=250)
@given(
    source=data(),
    history=data(2),
    function=st.sampled_from(RESUMING),
    final=st.booleans(),
)
def test_what_was_compressed_comes_back(source: bytes, history: bytes, function: FunctionCode, final: bool) -> None:
    history = history[-32_768:]
    outcome = ENGINE.complete(job(function, source or b"x", history=history, final=final))
    back = ENGINE.complete(job(FunctionCode.DECOMPRESS_RESUME, outcome.target, history=history))
    assert back.target == (source or b"x")
    assert back.csb.ended is final
    assert (back.csb.crc32, back.csb.adler32) == (outcome.csb.crc32, outcome.csb.adler32)


@settings(deadline=None, max_examples=500)
@given(
    function=st.integers(0, 255),
    frame=data(2) | st.binary(max_size=200) | data(2).map(raw_deflate),
    history_bytes=st.integers(0, 32_768) | st.just(0),
    target_bytes=st.integers(0, 200_000) | st.just(0xFFFF_FFFF),
    final=st.booleans(),
    resume=st.binary(max_size=16) | st.just(b""),
    flips=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 7)), max_size=3),
)
def test_no_request_raises_or_overruns(
    function: int,
    frame: bytes,
    history_bytes: int,
    target_bytes: int,
    final: bool,
    resume: bytes,
    flips: list[tuple[int, int]],
) -> None:
    mutated = bytearray(frame)
    for place, bit in flips:
        if mutated:
            mutated[place % len(mutated)] ^= 1 << bit
    crb = Crb(function=function, target_bytes=target_bytes, history_bytes=history_bytes, final=final, resume=resume)
    outcome = ENGINE.complete(Job(crb, bytes(mutated)))
    assert len(outcome.target) == outcome.csb.target_bytes <= min(target_bytes, 2 * LIMIT)
    assert outcome.csb.processed_bytes <= len(mutated)
    assert outcome.csb.extension in (FULL, PARTIAL, ERROR)
    assert ENGINE.complete(Job(crb, bytes(mutated))).csb == outcome.csb
