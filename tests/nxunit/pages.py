"""Requests with absent pages, and models that walk through them as hardware does: read on, write what arises."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

from hypothesis import event
from hypothesis import strategies as st

from nxunit.deflate import SYNC_FLUSH_BYTES
from nxunit.engine import Engine
from nxunit.job import Completion, Job, TranslationFault
from protocol.codes import Operand
from protocol.paste_messages import PAGE_BYTES, SOURCE_ADDRESS, TARGET_ADDRESS
from tests.nxunit.jobs import NOISE, ROOM, TEXT

LIMIT = 5 * PAGE_BYTES + 1_000
LOW = PAGE_BYTES + 500
ENGINE = Engine(LIMIT, LOW)
NONE_PRESENT = bytes(16)
LONG = (TEXT + NOISE)[: 6 * PAGE_BYTES]


def absent(*pages: int) -> bytes:
    """A page map that lacks these pages."""
    bits = (1 << 64) - 1
    for page in pages:
        bits &= ~(1 << page)
    return bits.to_bytes(8, "little")


def with_pages(request: Job, source: bytes = b"", target: bytes = b"") -> Job:
    crb = request.crb.model_copy(update={"source_pages": source, "target_pages": target})
    return replace(request, crb=crb)


def source_fault(page: int) -> TranslationFault:
    return TranslationFault(Operand.SOURCE, SOURCE_ADDRESS + page * PAGE_BYTES)


def target_fault(page: int) -> TranslationFault:
    return TranslationFault(Operand.TARGET, TARGET_ADDRESS + page * PAGE_BYTES)


class Absent(Exception):
    """A model has come to an absent page."""

    def __init__(self, fault: TranslationFault) -> None:
        self.fault = fault


class Memory:
    """The operands of a request, of which each page is looked up as it is touched."""

    def __init__(self, request: Job) -> None:
        self.crb = request.crb
        self.written_bytes = 0

    def read(self, offset: int) -> None:
        self._touch(self.crb.source_pages, offset // PAGE_BYTES, source_fault)

    def write_up_to(self, end_bytes: int) -> None:
        """Write on to `end_bytes`, never backwards."""
        if end_bytes <= self.written_bytes:
            return
        for page in range(self.written_bytes // PAGE_BYTES, (end_bytes - 1) // PAGE_BYTES + 1):
            self._touch(self.crb.target_pages, page, target_fault)
        self.written_bytes = end_bytes

    def _touch(self, pages: bytes, page: int, fault: Callable[[int], TranslationFault]) -> None:
        bits = "".join(f"{byte:08b}"[::-1] for byte in pages)
        if page < len(bits) and bits[page] == "0":
            raise Absent(fault(page))


def walk_inflate(request: Job, before: bytes, delivered_bytes: int, limit_bytes: int) -> None:
    """One byte of source at a time through zlib. `before` is what a resumed state has swallowed already."""
    memory, history_bytes = Memory(request), request.crb.history_bytes
    machine = zlib.decompressobj(-15, request.frame[:history_bytes]) if history_bytes else zlib.decompressobj(-15)
    room_bytes = min(request.crb.target_bytes, limit_bytes)
    arisen_bytes = len(machine.decompress(before)) - delivered_bytes
    if history_bytes:
        memory.read(0)
    memory.write_up_to(min(arisen_bytes, room_bytes))
    state_bytes = 0 if request.state is None else request.state.skip_bytes
    for offset in range(history_bytes, len(request.frame)):
        if arisen_bytes > room_bytes or machine.eof:
            return
        if offset % PAGE_BYTES == 0 or offset == history_bytes:
            memory.read(offset)
        if offset - history_bytes < state_bytes:
            continue
        try:
            arisen_bytes += len(machine.decompress(request.frame[offset : offset + 1]))
        except zlib.error:
            return
        memory.write_up_to(min(arisen_bytes, room_bytes))


def walk_wrap(request: Job, limit_bytes: int) -> None:
    memory = Memory(request)
    for offset in range(0, min(len(request.frame), limit_bytes), 500):
        memory.read(offset)
        memory.read(min(offset + 499, len(request.frame) - 1, limit_bytes - 1))
        end_bytes = min(offset + 500, len(request.frame), limit_bytes)
        memory.write_up_to(min(end_bytes, request.crb.target_bytes))
        if end_bytes > request.crb.target_bytes:
            return


def walk_compress(request: Job) -> None:
    """One page of source at a time: what the engine makes of the source so far is what has arisen."""
    memory, crb = Memory(request), request.crb
    whole = ENGINE.complete(replace(request, crb=crb.model_copy(update={"target_bytes": 1 << 30})))
    end_bytes = whole.csb.processed_bytes
    for offset in range(0, end_bytes, PAGE_BYTES):
        memory.read(offset)
        read_bytes = min(offset + PAGE_BYTES, end_bytes)
        if read_bytes == end_bytes:
            arisen_bytes = len(whole.target)
        elif read_bytes <= crb.history_bytes:
            arisen_bytes = 0
        else:
            so_far = crb.model_copy(update={"target_bytes": 1 << 30, "final": False})
            part = ENGINE.complete(Job(so_far, request.frame[:read_bytes]))
            arisen_bytes = len(part.target) - SYNC_FLUSH_BYTES
        memory.write_up_to(min(arisen_bytes, crb.target_bytes))
        if arisen_bytes > crb.target_bytes:
            return


def fault_of(walk: Callable[[], None]) -> TranslationFault | None:
    try:
        walk()
    except Absent as absent_page:
        return absent_page.fault
    return None


def agrees(request: Job, expected: TranslationFault | None) -> None:
    """The engine faults as the model does, or does what it does when all pages are present."""
    event("no fault" if expected is None else f"{expected.operand} fault")
    outcome = ENGINE.run(request)
    if expected is not None:
        assert outcome == expected
        return
    assert isinstance(outcome, Completion)
    everything_there = ENGINE.complete(with_pages(request))
    assert (outcome.csb, outcome.target) == (everything_there.csb, everything_there.target)


page_maps = st.sets(st.integers(0, 6), max_size=3).map(lambda pages: absent(*pages))
low_bits = st.sampled_from((0, 0, 1))


@st.composite
def material(draw: st.DrawFn) -> bytes:
    """A few pages of text, noise or zeros."""
    parts: list[bytes] = []
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 2 * PAGE_BYTES) | st.sampled_from((PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1)))
        kind = draw(st.sampled_from((TEXT, NOISE, bytes(2 * PAGE_BYTES + 1))))
        parts.append(kind[:size])
    return b"".join(parts)


sizes = st.just(ROOM) | st.integers(0, 6 * PAGE_BYTES) | st.sampled_from((PAGE_BYTES, 2 * PAGE_BYTES))
