"""Which absent page stops a request, against models that look each page up as they come to it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codes import FunctionCode
from protocol.paste_messages import PAGE_BYTES
from tests.nxunit.jobs import job, raw_deflate
from tests.nxunit.pages import (
    ENGINE,
    LIMIT,
    LOW,
    agrees,
    fault_of,
    low_bits,
    material,
    page_maps,
    sizes,
    walk_compress,
    walk_inflate,
    walk_wrap,
    with_pages,
)


@settings(deadline=None, max_examples=100)
@given(plain=material(), source=page_maps, target=page_maps, low=low_bits, target_bytes=sizes)
def test_a_copy_stops_where_the_model_does(
    plain: bytes, source: bytes, target: bytes, low: int, target_bytes: int
) -> None:
    request = with_pages(job(FunctionCode.WRAP | low, plain, target_bytes=target_bytes), source, target)
    agrees(request, fault_of(lambda: walk_wrap(request, LOW if low else LIMIT)))


@settings(deadline=None, max_examples=100)
@given(
    plain=material(), source=page_maps, target=page_maps, low=low_bits, target_bytes=sizes,
    function=st.sampled_from([code for code in FunctionCode if code.compresses]),
    history_bytes=st.integers(0, 32_768), final=st.booleans(),
)  # fmt: skip
def test_a_compression_stops_where_the_model_does(
    plain: bytes, source: bytes, target: bytes, low: int, target_bytes: int, function: FunctionCode,
    history_bytes: int, final: bool,
) -> None:  # fmt: skip
    history = plain[:history_bytes] if function.resumes else b""
    whole = job(function | low, plain, history=history, target_bytes=target_bytes, final=final)
    request = with_pages(whole, source, target)
    agrees(request, fault_of(lambda: walk_compress(request)))


@settings(deadline=None, max_examples=60)
@given(
    plain=material(), source=page_maps, target=page_maps, low=low_bits, target_bytes=sizes,
    level=st.sampled_from((0, 1, 9)), history_bytes=st.sampled_from((0, 0, 1, 32_768)),
    tail=st.sampled_from((b"", b"trailing", bytes(PAGE_BYTES))), cut_bytes=st.sampled_from((0, 0, 1, 5_000)),
)  # fmt: skip
def test_a_decompression_stops_where_the_model_does(
    plain: bytes, source: bytes, target: bytes, low: int, target_bytes: int, level: int, history_bytes: int,
    tail: bytes, cut_bytes: int,
) -> None:  # fmt: skip
    history = plain[:history_bytes]
    stream = raw_deflate(plain, level, history=history)
    stream = stream[: max(len(stream) - cut_bytes, 1)] if cut_bytes else stream + tail
    function = FunctionCode.DECOMPRESS_RESUME if history else FunctionCode.DECOMPRESS
    whole = job(function | low, stream, history=history, target_bytes=target_bytes)
    request = with_pages(whole, source, target)
    agrees(request, fault_of(lambda: walk_inflate(request, b"", 0, LOW if low else LIMIT)))


@settings(deadline=None, max_examples=40)
@given(
    plain=material(), source=page_maps, target=page_maps, low=low_bits, level=st.sampled_from((0, 1, 9)),
    piece_bytes=st.integers(1, 3 * PAGE_BYTES),
)  # fmt: skip
def test_a_resumed_decompression_stops_where_the_model_does(
    plain: bytes, source: bytes, target: bytes, low: int, level: int, piece_bytes: int
) -> None:
    stream = raw_deflate(plain, level)
    first = ENGINE.complete(job(FunctionCode.DECOMPRESS | 1, stream[:piece_bytes]))
    if first.suspended is None:
        return
    position = first.csb.processed_bytes
    whole = job(FunctionCode.DECOMPRESS_RESUME | low, stream[position:], resume=b"t" * 16, state=first.suspended)
    request = with_pages(whole, source, target)
    before = stream[: position + first.suspended.skip_bytes]
    agrees(request, fault_of(lambda: walk_inflate(request, before, len(first.target), LOW if low else LIMIT)))
