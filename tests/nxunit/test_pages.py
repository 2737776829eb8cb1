"""Which absent page stops a request, against a model that walks through the request step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nxunit.job import Completion, Job, TranslationFault
from nxunit.pages import first_absent
from protocol.codes import CompletionCode, FunctionCode, Operand
from protocol.paste_messages import CSB_ADDRESS, PAGE_BYTES, Crb
from tests.fidelity.rows import fidelity
from tests.nxunit.jobs import NOISE, ROOM, TEXT, job, raw_deflate
from tests.nxunit.pages import (
    ENGINE,
    LONG,
    LOW,
    NONE_PRESENT,
    absent,
    source_fault,
    target_fault,
    with_pages,
)

# The page map.


@fidelity(
    "3 faults",
    "Pages are absent because the operating system has taken them.",
    source="T:api",
    differs="The sender says which of its pages, of 64 KiB each, are absent.",
)
@pytest.mark.parametrize(
    ("pages", "operand_bytes", "offset"),
    [
        (b"", 10 * PAGE_BYTES, None),
        (b"\xff", 20 * PAGE_BYTES, None),
        (b"\xfe", 1, 0),
        (b"\xfe", 0, None),
        (b"\xfd", PAGE_BYTES, None),
        (b"\xfd", PAGE_BYTES + 1, PAGE_BYTES),
        (b"\xff\xfd\x00", 64 * PAGE_BYTES, 9 * PAGE_BYTES),
        (NONE_PRESENT, 1 << 32, 0),
        (b"\xff" * 15 + b"\x7f", 1 << 32, 127 * PAGE_BYTES),
    ],
)
def test_the_first_absent_page_within_the_operand(pages: bytes, operand_bytes: int, offset: int | None) -> None:
    assert first_absent(pages, operand_bytes) == offset


# Pages in processing order.


@fidelity(
    "3 faults",
    "A request stops at the first page that it touches and that is absent, in the order in which it reads and writes.",
    source="UM p.46-47",
)
def test_the_source_is_read_before_the_target_is_written() -> None:
    request = job(FunctionCode.WRAP, LONG[: 2 * PAGE_BYTES])
    assert ENGINE.run(with_pages(request, absent(0), absent(0))) == source_fault(0)
    assert ENGINE.run(with_pages(request, absent(1), absent(0))) == target_fault(0)
    assert ENGINE.run(with_pages(request, absent(1), absent(1))) == source_fault(1)
    assert ENGINE.run(with_pages(request, b"", absent(1))) == target_fault(1)


@fidelity(
    "3 faults",
    "A request stops at the first page that it touches and that is absent, in the order in which it reads and writes.",
    source="UM p.46-47",
)
def test_the_history_is_the_beginning_of_the_source_operand() -> None:
    request = job(FunctionCode.COMPRESS_RESUME_DHT, LONG[:40_000], history=LONG[:32_768])
    assert ENGINE.run(with_pages(request, absent(0))) == source_fault(0)
    assert ENGINE.run(with_pages(request, absent(1))) == source_fault(1)
    assert isinstance(ENGINE.run(with_pages(request, absent(2))), Completion)


def test_a_source_page_after_the_streams_end_is_not_touched() -> None:
    stream = raw_deflate(TEXT[:200])
    request = job(FunctionCode.DECOMPRESS, stream + bytes(3 * PAGE_BYTES))
    assert ENGINE.run(with_pages(request, absent(1, 2))) == ENGINE.run(request)
    assert ENGINE.run(with_pages(request, absent(0))) == source_fault(0)


def test_a_source_page_after_bad_data_is_not_touched() -> None:
    request = job(FunctionCode.DECOMPRESS, b"\x07" + bytes(2 * PAGE_BYTES))
    outcome = ENGINE.run(with_pages(request, absent(1, 2), NONE_PRESENT))
    assert isinstance(outcome, Completion)
    assert outcome.csb.code is CompletionCode.BAD_HUFFMAN_CODE


def test_target_pages_are_written_up_to_bad_data() -> None:
    """Stored blocks: 90,000 bytes of output, then a block of the type that there is not."""
    good = b"".join(b"\x00" + (30_000).to_bytes(2, "little") + (35_535).to_bytes(2, "little") + NOISE[:30_000]
                    for _ in range(3))  # fmt: skip
    request = job(FunctionCode.DECOMPRESS, good + b"\x07" + bytes(100))
    assert ENGINE.run(with_pages(request, b"", absent(1))) == target_fault(1)
    assert ENGINE.run(with_pages(request, absent(1), b"")) == source_fault(1)
    outcome = ENGINE.run(with_pages(request, absent(2), absent(2)))
    assert isinstance(outcome, Completion)
    assert outcome.csb.code is CompletionCode.BAD_HUFFMAN_CODE


@pytest.mark.parametrize("function", [FunctionCode.COMPRESS_DHT, FunctionCode.COMPRESS_FHT, FunctionCode.WRAP])
def test_a_source_page_after_the_byte_count_limit_is_not_touched(function: FunctionCode) -> None:
    request = job(function, LONG)
    assert ENGINE.run(with_pages(request, absent(5))) == source_fault(5)
    held = job(function | 1, LONG)
    assert ENGINE.run(with_pages(held, absent(2, 3, 4, 5))) == ENGINE.run(held)
    assert ENGINE.run(replace(with_pages(request, absent(2)), low_limit=True)) == ENGINE.run(held_alike(held, request))
    assert ENGINE.run(with_pages(held, absent(1))) == source_fault(1)


def held_alike(held: Job, request: Job) -> Job:
    """The same request, held by the unit instead of by its function code."""
    assert held.frame == request.frame
    return replace(request, low_limit=True)


def test_decompression_that_reaches_the_limit_touches_no_further_source() -> None:
    stream = raw_deflate(NOISE[: 6 * PAGE_BYTES], 0)
    request = job(FunctionCode.DECOMPRESS | 1, stream)
    outcome = ENGINE.run(with_pages(request, absent(2)))
    assert isinstance(outcome, Completion)
    assert (outcome.csb.target_bytes, outcome.target) == (LOW, NOISE[:LOW])
    assert outcome.suspended is not None
    assert ENGINE.run(with_pages(request, absent(1))) == source_fault(1)


@pytest.mark.parametrize(
    "function", [FunctionCode.COMPRESS_DHT, FunctionCode.COMPRESS_FHT, FunctionCode.DECOMPRESS, FunctionCode.WRAP]
)
def test_target_pages_beyond_the_output_are_not_touched(function: FunctionCode) -> None:
    plain = bytes(3_000)
    source = raw_deflate(plain) if function is FunctionCode.DECOMPRESS else plain
    request = job(function, source)
    assert ENGINE.run(with_pages(request, b"", absent(1, 2, 3))) == ENGINE.run(request)
    assert ENGINE.run(with_pages(request, b"", absent(0))) == target_fault(0)


def test_a_target_that_is_too_small_is_found_before_what_comes_after_it() -> None:
    request = job(FunctionCode.WRAP, LONG[: 3 * PAGE_BYTES], target_bytes=PAGE_BYTES)
    outcome = ENGINE.run(with_pages(request, absent(2), absent(1)))
    assert isinstance(outcome, Completion)
    assert outcome.csb.code is CompletionCode.TARGET_SPACE
    assert ENGINE.run(with_pages(request, absent(1))) == source_fault(1), "the target is full, not yet too small"
    assert ENGINE.run(with_pages(request, absent(2), absent(0))) == target_fault(0)


def test_a_small_source_may_fill_an_absent_target_page() -> None:
    request = job(FunctionCode.DECOMPRESS, raw_deflate(bytes(4 * PAGE_BYTES)))
    assert ENGINE.run(with_pages(request, b"", absent(3))) == target_fault(3)


@fidelity(
    "3 faults",
    "A request stops at the first page that it touches and that is absent, in the order in which it reads and writes.",
    source="UM p.46-47",
)
def test_what_a_state_holds_is_written_before_more_source_is_read() -> None:
    stream = raw_deflate(bytes(8 * PAGE_BYTES), 9)
    first = ENGINE.complete(job(FunctionCode.DECOMPRESS | 1, stream))
    rest = stream[first.csb.processed_bytes :]
    request = job(FunctionCode.DECOMPRESS_RESUME | 1, rest, resume=b"t" * 16, state=first.suspended)
    assert ENGINE.run(with_pages(request, absent(0), absent(0))) == target_fault(0)
    outcome = ENGINE.run(with_pages(request, absent(0)))
    assert outcome == source_fault(0)
    after_history = job(FunctionCode.DECOMPRESS_RESUME | 1, rest, history=b"h", resume=b"t" * 16, state=first.suspended)
    assert ENGINE.run(with_pages(after_history, absent(0), absent(0))) == source_fault(0), "the history comes first"
    again = ENGINE.complete(request)
    assert again.target == bytes(LOW), "the state is as it was"


def test_a_request_that_cannot_be_done_touches_no_page() -> None:
    for request, code in (
        (job(0xFE, LONG), CompletionCode.INVALID_FUNCTION),
        (job(FunctionCode.WRAP, LONG, history=b"h"), CompletionCode.INVALID_CRB),
        (job(FunctionCode.DECOMPRESS_RESUME, LONG, resume=b"t" * 16), CompletionCode.INVALID_OPERAND),
    ):
        outcome = ENGINE.run(with_pages(request, NONE_PRESENT, NONE_PRESENT))
        assert isinstance(outcome, Completion)
        assert outcome.csb.code is code


@fidelity(
    "2 requests",
    "An empty source is completion code 14, terminated.",
    source="UM p.66-71",
    differs="It is taken: the output is that of no data.",
)
def test_an_empty_source_touches_no_source_page() -> None:
    outcome = ENGINE.run(with_pages(job(FunctionCode.WRAP), NONE_PRESENT, NONE_PRESENT))
    assert isinstance(outcome, Completion)
    assert outcome.csb.code is CompletionCode.OK
    outcome = ENGINE.run(with_pages(job(FunctionCode.DECOMPRESS), NONE_PRESENT, NONE_PRESENT))
    assert isinstance(outcome, Completion)


# Addresses and the status block.


def test_the_address_is_the_senders_and_wraps_around() -> None:
    crb = Crb(function=FunctionCode.WRAP, target_bytes=ROOM, source_address=4_096, source_pages=absent(1))
    assert ENGINE.run(Job(crb, LONG)) == TranslationFault(Operand.SOURCE, 4_096 + PAGE_BYTES)
    highest = crb.model_copy(update={"source_address": (1 << 64) - 1})
    assert ENGINE.run(Job(highest, LONG)) == TranslationFault(Operand.SOURCE, PAGE_BYTES - 1)
    highest = crb.model_copy(update={"source_pages": b"", "target_pages": absent(2), "target_address": (1 << 64) - 1})
    assert ENGINE.run(Job(highest, LONG)) == TranslationFault(Operand.TARGET, 2 * PAGE_BYTES - 1)


@fidelity(
    "3 faults",
    "The status block's page can be absent too, which is why libnxz can lock it (mlock_csb).",
    source="LNX:lib/nx_zlib.c",
)
@pytest.mark.parametrize("function", [FunctionCode.WRAP, 0xFE])
def test_a_status_block_that_cannot_be_written_is_the_last_to_fault(function: int) -> None:
    crb = Crb(function=function, target_bytes=ROOM, csb_present=False)
    assert ENGINE.run(Job(crb, LONG)) == TranslationFault(Operand.CSB, CSB_ADDRESS)
    nowhere = crb.model_copy(update={"csb_present": True, "csb_address": 0})
    assert ENGINE.run(Job(nowhere, LONG)) == TranslationFault(Operand.CSB, 0)
    both = crb.model_copy(update={"source_pages": absent(0)})
    expected = source_fault(0) if function == FunctionCode.WRAP else TranslationFault(Operand.CSB, CSB_ADDRESS)
    assert ENGINE.run(Job(both, LONG)) == expected
