"""Requests that meet absent pages: the kernel writes their status block, and whoever pasted touches the page."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpar.client import Lpar, NxError, NxGzip, PasteArea, PasteRefused, Request
from lpar.client.page_faults import SOURCE_LEAST_BYTES, TARGET_LEAST_BYTES, halved
from lpar.client.request import BLOCK_BYTES, PAGES_LIMIT
from protocol.codes import CompletionCode, CompletionExtension, FallbackReason, FunctionCode
from protocol.device_messages import CsbUpdated
from protocol.paste_messages import CSB_ADDRESS, PAGE_BYTES, SOURCE_ADDRESS, TARGET_ADDRESS, Paste
from tests.client.test_compress import NOISE, TEXT
from tests.client.world import World

DATA = TEXT[: 3 * PAGE_BYTES]
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, 4 * PAGE_BYTES)
FAULT_US = 5_000
"""More than a fault takes in these worlds, from paste to status block."""
Paging = Callable[[Request], Request]


@pytest.fixture
def area(lpar: Lpar) -> PasteArea:
    return lpar.open_window().map()


def crbs(world: World) -> list[Paste]:
    return [envelope.body for envelope in world.sent_of(Paste) if isinstance(envelope.body, Paste)]


def vanishing(times: int, **absent: object) -> Paging:
    """Pages that are gone for the first pastes."""
    left = [times]

    def paging(request: Request) -> Request:
        left[0] -= 1
        return request if left[0] < 0 else replace(request, **absent)  # type: ignore[arg-type]

    return paging


def only_resident(pages: int) -> Paging:
    """No more pages of an operand fit in memory: of a larger one the last is always gone."""

    def paging(request: Request) -> Request:
        source, target = request.source_page_count, request.target_page_count
        return replace(
            request,
            absent_source=frozenset({source - 1} if source > pages else ()),
            absent_target=frozenset({0} if target > pages else ()),
        )

    return paging


@settings(deadline=None)
@given(st.frozensets(st.integers(0, PAGES_LIMIT - 1)))
def test_the_page_map_has_a_bit_for_every_page_up_to_the_last_absent_one(absent: frozenset[int]) -> None:
    crb = replace(REQUEST, absent_source=absent).crb()
    assert crb.target_pages == b""
    bits = [crb.source_pages[page // 8] >> page % 8 & 1 for page in range(8 * len(crb.source_pages))]
    assert {page for page, present in enumerate(bits) if not present} == absent
    assert len(crb.source_pages) == (max(absent) // 8 + 1 if absent else 0)


def test_every_attempt_has_a_status_block_of_its_own_240_bytes_into_a_block() -> None:
    addresses = [REQUEST.crb(attempt).csb_address for attempt in range(3)]
    assert addresses == [CSB_ADDRESS, CSB_ADDRESS + BLOCK_BYTES, CSB_ADDRESS + 2 * BLOCK_BYTES]
    assert {address % BLOCK_BYTES for address in addresses} == {240}
    assert replace(REQUEST, csb_address=0).crb(5).csb_address == 0


def test_touching_brings_the_page_of_an_address_in_and_no_other() -> None:
    request = replace(
        REQUEST, absent_source=frozenset({0, 2}), absent_target=frozenset({1, 3}), csb_present=False
    )  # fmt: skip
    assert request.touched(SOURCE_ADDRESS + 2 * PAGE_BYTES) == replace(request, absent_source=frozenset({0}))
    assert request.touched(TARGET_ADDRESS + PAGE_BYTES + 17) == replace(request, absent_target=frozenset({3}))
    assert request.touched(REQUEST.crb(9).csb_address) == replace(request, csb_present=True)
    assert request.touched(SOURCE_ADDRESS + PAGE_BYTES) == request
    own = replace(request, csb_address=0x1000)
    assert own.touched(0x1000) == replace(own, csb_present=True)


@pytest.mark.parametrize("address", [0, SOURCE_ADDRESS - 1, SOURCE_ADDRESS + 3 * PAGE_BYTES, TARGET_ADDRESS - 1])
def test_an_address_outside_the_request_cannot_be_touched(address: int) -> None:
    with pytest.raises(ValueError, match="in no operand"):
        REQUEST.touched(address)


def test_pages_and_addresses_that_no_message_carries_are_refused() -> None:
    with pytest.raises(ValueError, match="absent_source holds numbers of pages"):
        replace(REQUEST, absent_source=frozenset({PAGES_LIMIT}))
    with pytest.raises(ValueError, match="absent_target holds numbers of pages"):
        replace(REQUEST, absent_target=frozenset({-1}))
    with pytest.raises(ValueError, match="csb_address"):
        replace(REQUEST, csb_address=1 << 64)


@pytest.mark.parametrize(
    ("absent", "address"),
    [
        ({"absent_source": frozenset({1, 2})}, SOURCE_ADDRESS + PAGE_BYTES),
        ({"absent_target": frozenset({0})}, TARGET_ADDRESS),
        ({"csb_present": False}, CSB_ADDRESS + BLOCK_BYTES),
    ],
)
def test_the_status_block_says_250_and_where(
    world: World, area: PasteArea, absent: dict[str, object], address: int
) -> None:
    csb = area.paste(replace(REQUEST, **absent)).wait()  # type: ignore[arg-type]
    assert csb.is_page_fault
    assert (csb.code, csb.fault_address) == (CompletionCode.TRANSLATION_FAULT, address)
    assert (csb.extension, csb.processed_bytes, csb.target) == (CompletionExtension.TERMINATED, 0, b"")
    assert world.nx0.executed + world.nx1.executed == 0
    world.pass_time(FAULT_US)
    assert [type(answer) for answer in world.kernel.answers] == [CsbUpdated]


def test_touching_page_after_page_gets_a_request_through(lpar: Lpar) -> None:
    window = lpar.open_window()
    request = replace(
        REQUEST, absent_source=frozenset({0, 1}), absent_target=frozenset({0}), csb_present=False
    )  # fmt: skip
    faults = 0
    while (csb := window.run(request)).is_page_fault:
        request = request.touched(csb.fault_address)
        faults += 1
    assert faults == 4
    assert zlib.decompress(csb.target, -15) == DATA


def test_a_page_that_is_never_needed_is_no_fault(lpar: Lpar) -> None:
    csb = lpar.open_window().run(replace(REQUEST, absent_target=frozenset({3})))
    assert csb.code is CompletionCode.OK


def test_while_the_window_credit_is_out_pastes_are_refused_and_run_waits(world: World, lpar: Lpar) -> None:
    world.kernel.credit_late_us = 20_000
    window = lpar.open_window()
    area = window.map()
    assert area.paste(replace(REQUEST, csb_present=False)).wait().is_page_fault
    with pytest.raises(PasteRefused):
        area.paste(REQUEST)
    assert window.run(REQUEST).code is CompletionCode.OK


def test_a_faulted_request_that_is_told_to_be_accepted_again_and_again_is_waited_for(
    world: World, area: PasteArea
) -> None:
    world.nx0.on_fault = world.nx1.on_fault = lambda _unit, _paste, _address: None
    pending = area.paste(replace(REQUEST, absent_source=frozenset({0})))
    with pytest.raises(TimeoutError, match="did not complete a request"):
        pending.wait(timeout=10.0)
    assert len(crbs(world)) == 21
    assert len({paste.number for paste in crbs(world)}) == 1
    world.kernel.update_csb(crbs(world)[0].crb.csb_address, SOURCE_ADDRESS)
    assert pending.wait(timeout=1.0).is_page_fault


def test_a_status_block_of_nobody_or_for_the_second_time_is_answered_and_ignored(world: World, area: PasteArea) -> None:
    pending = area.paste(replace(REQUEST, csb_present=False))
    csb = pending.wait()
    world.kernel.update_csb(0x1234, 0x1234)
    world.kernel.update_csb(crbs(world)[0].crb.csb_address, 99)
    world.pass_time(FAULT_US)
    assert [type(answer) for answer in world.kernel.answers] == [CsbUpdated] * 3
    assert pending.wait() == csb
    assert area.paste(REQUEST).wait().code is CompletionCode.OK


def test_a_status_block_of_another_address_ends_nobodys_request(world: World, area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    world.kernel.update_csb(CSB_ADDRESS + 99 * BLOCK_BYTES, SOURCE_ADDRESS)
    assert pending.wait().code is CompletionCode.OK
    assert [type(answer) for answer in world.kernel.answers] == [CsbUpdated]


def test_a_status_block_may_come_before_the_paste_is_answered(world: World, area: PasteArea) -> None:
    world.nx0.swallow_next = world.nx1.swallow_next = 1
    world.later(1_000, lambda: world.kernel.update_csb(crbs(world)[0].crb.csb_address, SOURCE_ADDRESS))
    assert area.paste(REQUEST).wait().is_page_fault
    assert len(crbs(world)) == 1


def test_two_windows_faulting_at_once_get_each_its_own(lpar: Lpar) -> None:
    areas = [lpar.open_window().map() for _ in range(2)]
    pages = [SOURCE_ADDRESS, SOURCE_ADDRESS + 2 * PAGE_BYTES]
    pendings = [
        area.paste(replace(REQUEST, absent_source=frozenset({page}))) for area, page in zip(areas, (0, 2), strict=True)
    ]
    assert [pending.wait().fault_address for pending in reversed(pendings)] == pages[::-1]


def test_halving_stops_at_a_floor_and_does_not_end_the_stream_early() -> None:
    request = replace(REQUEST, history=b"h" * 100)
    half = halved(request)
    assert (half.source, half.target_bytes, half.final) == (DATA[: len(DATA) // 2], 2 * PAGE_BYTES, False)
    assert half.history == request.history
    for _ in range(20):
        half = halved(half)
    assert (len(half.source), half.target_bytes) == (SOURCE_LEAST_BYTES, TARGET_LEAST_BYTES)
    small = replace(REQUEST, source=b"small", target_bytes=10)
    assert halved(small) == small
    inflating = replace(REQUEST, function=FunctionCode.DECOMPRESS)
    assert halved(inflating).final


@pytest.mark.parametrize("form", ["gzip", "zlib", "raw"])
def test_one_fault_costs_one_more_paste_and_nothing_else(world: World, lpar: Lpar, form: str) -> None:
    nx = NxGzip(lpar, "nx", paging=vanishing(1, absent_source=frozenset({0, 1})))
    compressed = nx.compress(DATA, form)  # type: ignore[arg-type]
    assert zlib.decompress(compressed, {"gzip": 31, "zlib": 15, "raw": -15}[form]) == DATA
    picture = nx.statistics()
    assert (picture.page_faults, picture.requests) == (1, 2)
    assert (picture.compress.nx_bytes, picture.compress.software_bytes) == (len(DATA), 0)
    first, second = crbs(world)
    assert (first.crb.source_pages, second.crb.source_pages) == (b"\xfc", b"")
    assert first.crb.csb_address != second.crb.csb_address


@pytest.mark.parametrize("form", ["gzip", "zlib", "raw"])
@pytest.mark.parametrize("data", [DATA, NOISE], ids=["text", "noise"])
def test_with_little_memory_the_parts_get_smaller_until_they_fit(lpar: Lpar, form: str, data: bytes) -> None:
    nx = NxGzip(lpar, "nx", paging=only_resident(1))
    compressed = nx.compress(data, form)  # type: ignore[arg-type]
    assert zlib.decompress(compressed, {"gzip": 31, "zlib": 15, "raw": -15}[form]) == data
    assert nx.statistics().page_faults > 2
    assert nx.statistics().compress.nx_bytes == len(data)


@pytest.mark.parametrize("pages", [1, 3])
def test_decompression_gets_by_with_little_memory_too(lpar: Lpar, pages: int) -> None:
    nx = NxGzip(lpar, "nx", paging=only_resident(pages))
    for data in (DATA, NOISE):
        assert nx.decompress(gzip.compress(data)) == data
    assert nx.statistics().page_faults > 2
    assert nx.statistics().decompress.software_bytes == 0


def test_pages_that_keep_vanishing_are_given_up_at_the_deadline(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar, fault_timeout=0.5, paging=vanishing(1 << 30, absent_source=frozenset({0})))
    began_us = world.now_us
    assert gzip.decompress(nx.compress(DATA)) == DATA
    assert 500_000 <= world.now_us - began_us < 510_000
    picture = nx.statistics()
    assert picture.compress.fallback[FallbackReason.PAGE_FAULT] == len(DATA)
    assert picture.compress.is_balanced
    assert picture.page_faults > 100


def test_progress_before_the_last_fault_is_not_lost(world: World, lpar: Lpar) -> None:
    healthy = 3
    nx = NxGzip(lpar, fault_timeout=0.05, paging=lambda request: flaky(request))

    def flaky(request: Request) -> Request:
        done = world.nx0.executed + world.nx1.executed
        return request if done < healthy else replace(request, absent_target=frozenset({0}))

    for unit in world.units.values():
        unit.limit_bytes = PAGE_BYTES
    assert zlib.decompress(nx.compress(DATA, "zlib")) == DATA
    picture = nx.statistics().compress
    assert picture.nx_bytes > PAGE_BYTES
    assert picture.nx_bytes + picture.fallback[FallbackReason.PAGE_FAULT] == len(DATA)


def test_a_strict_mode_gives_the_page_fault_to_the_caller(lpar: Lpar) -> None:
    nx = NxGzip(lpar, "nx", fault_timeout=0.01, paging=vanishing(1 << 30, csb_present=False))
    with pytest.raises(NxError) as caught:
        nx.compress(DATA)
    assert caught.value.reason is FallbackReason.PAGE_FAULT


def test_a_paging_that_raises_ends_the_call_and_leaves_the_window_usable(lpar: Lpar) -> None:
    broken = [True]

    def paging(request: Request) -> Request:
        if broken[0]:
            raise ZeroDivisionError
        return request

    nx = NxGzip(lpar, paging=paging)
    with pytest.raises(ZeroDivisionError):
        nx.compress(DATA)
    broken[0] = False
    assert gzip.decompress(nx.compress(DATA)) == DATA
