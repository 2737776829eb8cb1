"""A pretended NX unit on zlib: window contexts, one window credit each, resume tokens, absent pages."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.codes import CompletionCode, CompletionExtension, FunctionCode
from protocol.message import Message, PasteAddress
from protocol.paste_messages import (
    PAGE_BYTES,
    SOURCE_ADDRESS,
    TARGET_ADDRESS,
    Crb,
    CsbBody,
    Paste,
    PasteAccepted,
    PasteCompleted,
    PasteFaulted,
    PasteRefused,
)
from protocol.wire import Envelope

PARTIAL = int(CompletionExtension.TPBC_VALID | CompletionExtension.PARTIAL)
WHOLE = int(CompletionExtension.TPBC_VALID)
TERMINATED = int(CompletionExtension.TPBC_VALID | CompletionExtension.TERMINATED)
SERVICE_US = 500

Outcome = tuple[CsbBody, bytes]


@dataclass
class Context:
    """One window's context."""

    window_id: int
    number: int = 0
    busy: bool = False
    outcome: Outcome | None = None


@dataclass
class FakeUnit:
    """`answer` puts a message on the way back; `later` calls something after a while.

    `refuse_next` pastes are refused, `swallow_next` pastes are not answered, `codes` are the completion codes of the
    next requests instead of doing them. `grows`: its compression makes everything larger. `suspend_at` gives the byte
    count at which the next job is suspended. `on_fault` is told of requests that met an absent page, with its address:
    they keep their window credit until `return_credit`.
    """

    name: str
    answer: Callable[[bytes, Envelope], None]
    later: Callable[[int, Callable[[], None]], None]
    limit_bytes: int = 1 << 20
    contexts: dict[bytes, Context] = field(default_factory=dict)
    refuse_next: int = 0
    swallow_next: int = 0
    mute: bool = False
    codes: list[CompletionCode] = field(default_factory=list)
    received: list[Paste] = field(default_factory=list)
    executed: int = 0
    states: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    grows: bool = False
    too_small: int = 0
    suspend_at: Callable[[], int] | None = None
    faulted: int = 0
    on_fault: Callable[[FakeUnit, Paste, int], None] | None = None

    def program(self, address: PasteAddress) -> None:
        self.contexts[address.token] = Context(address.window_id)

    def close(self, token: bytes) -> None:
        self.contexts.pop(token, None)

    def restart(self) -> None:
        """Everything it knew is gone."""
        self.contexts.clear()
        self.states.clear()

    def forget_numbers(self) -> None:
        """As after a restart in which the hypervisor programmed all contexts again."""
        for context in self.contexts.values():
            context.number, context.busy, context.outcome = 0, False, None
        self.states.clear()

    def return_credit(self, paste: Paste) -> None:
        """The kernel has fetched the fault: the request is over."""
        context = self.contexts.get(paste.token)
        if context is not None and context.number == paste.number:
            context.busy = False

    def receive(self, peer: bytes, envelope: Envelope) -> None:
        body = envelope.body
        assert isinstance(body, Paste)
        if self.mute:
            return
        self.received.append(body)
        if self.swallow_next:
            self.swallow_next -= 1
            return
        say = self._voice(peer, body)
        context = self.contexts.get(body.token)
        if context is None:
            say(PasteFaulted(window_id=body.window_id, number=body.number))
        elif body.number == context.number:
            self._repeated(say, body, context)
        elif self.refuse_next or context.busy or body.number < context.number:
            self.refuse_next = max(0, self.refuse_next - 1)
            say(PasteRefused(window_id=body.window_id, number=body.number))
        else:
            context.number, context.busy, context.outcome = body.number, True, None
            say(PasteAccepted(window_id=body.window_id, number=body.number))
            self.later(SERVICE_US, lambda: self._complete(say, body, context, envelope.frames[0]))

    def _voice(self, peer: bytes, body: Paste) -> Callable[..., None]:
        def say(message: Message, *frames: bytes) -> None:
            if not self.mute:
                self.answer(peer, Envelope(message, number=body.number, frames=frames))

        return say

    def _repeated(self, say: Callable[..., None], body: Paste, context: Context) -> None:
        if context.outcome is None:
            say(PasteAccepted(window_id=body.window_id, number=body.number))
        else:
            csb, target = context.outcome
            say(PasteCompleted(window_id=body.window_id, number=body.number, csb=csb), target)

    def _complete(self, say: Callable[..., None], body: Paste, context: Context, frame: bytes) -> None:
        if self.contexts.get(body.token) is not context or context.number != body.number or not context.busy:
            return
        outcome = self.execute(body.crb, frame, body.number)
        address = fault_of(body.crb, outcome)
        if address is not None:
            self.faulted += 1
            assert self.on_fault is not None
            self.on_fault(self, body, address)
            return
        self.executed += 1
        context.outcome = outcome
        context.busy = False
        self._repeated(say, body, context)

    def execute(self, crb: Crb, frame: bytes, number: int) -> Outcome:
        """What the engine makes of a request."""
        if self.codes:
            code = self.codes.pop(0)
            if code is not CompletionCode.OK:
                return terminated(crb, code)
        function = FunctionCode(crb.function)
        if function.compresses:
            return self._compress(crb, frame)
        return self._decompress(crb, frame, number)

    def _limit(self) -> int:
        return self.limit_bytes if self.suspend_at is None else min(self.limit_bytes, self.suspend_at())

    def _compress(self, crb: Crb, frame: bytes) -> Outcome:
        history, source = frame[: crb.history_bytes], frame[crb.history_bytes :]
        if history and not FunctionCode(crb.function).resumes:
            return terminated(crb, CompletionCode.INVALID_CRB)
        limit_bytes = self._limit()
        part = source[: max(4096 if self.suspend_at is None else 700, limit_bytes - len(history))]
        whole = len(part) == len(source)
        final = crb.final and whole
        if self.grows:
            target = wasteful(part, final=final)
        else:
            machine = zlib.compressobj(1, zlib.DEFLATED, -15, zdict=history)
            target = machine.compress(part) + machine.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
        if len(target) > crb.target_bytes:
            self.too_small += 1
            return terminated(crb, CompletionCode.TARGET_SPACE)
        code = CompletionCode.OK if len(target) <= len(frame) else CompletionCode.TPBC_GREATER
        return completed(crb, target, part, len(history) + len(part), code if whole else None)

    def _decompress(self, crb: Crb, frame: bytes, number: int) -> Outcome:
        fed, done = b"", 0
        if FunctionCode(crb.function) is FunctionCode.DECOMPRESS_RESUME:
            if crb.resume not in self.states:
                return terminated(crb, CompletionCode.INVALID_OPERAND)
            fed, done = self.states[crb.resume]
        limit_bytes = self._limit()
        room_bytes = min(crb.target_bytes, limit_bytes)
        machine = zlib.decompressobj(-15)
        try:
            output = machine.decompress(fed + frame, done + room_bytes)
            full = not machine.eof and len(output) == done + room_bytes and bool(machine.copy().decompress(b"", 1))
        except zlib.error:
            return terminated(crb, CompletionCode.BAD_HUFFMAN_CODE)
        target = output[done:]
        left_bytes = len(machine.unused_data) if machine.eof else len(machine.unconsumed_tail)
        if not machine.eof and len(target) == room_bytes:
            full = full or left_bytes > 0
        if full and crb.target_bytes < limit_bytes:
            return terminated(crb, CompletionCode.TARGET_SPACE)
        if full and not left_bytes:
            left_bytes = 1
        consumed_bytes = len(frame) - left_bytes
        whole = machine.eof and not left_bytes
        token = b""
        if not machine.eof:
            token = number.to_bytes(8, "big")
            self.states[token] = (fed + frame[:consumed_bytes], len(output))
        return completed(
            crb, target, target, consumed_bytes, CompletionCode.OK if whole else None, ended=machine.eof, resume=token
        )


def wasteful(data: bytes, *, final: bool) -> bytes:
    """Deflate that grows by 62 %: stored blocks of eight bytes."""
    blocks = [data[start : start + 8] for start in range(0, len(data), 8)]
    last = len(blocks) - 1
    return b"".join(
        struct.pack("<BHH", final and place == last, len(block), len(block) ^ 0xFFFF) + block
        for place, block in enumerate(blocks)
    )


def completed(
    crb: Crb,
    target: bytes,
    plain: bytes,
    processed_bytes: int,
    code: CompletionCode | None,
    *,
    ended: bool = False,
    resume: bytes = b"",
) -> Outcome:
    """A request that was carried out; without a code it was suspended."""
    csb = CsbBody(
        code=CompletionCode.DATA_LENGTH if code is None else code,
        extension=PARTIAL if code is None else WHOLE,
        processed_bytes=processed_bytes,
        target_bytes=len(target),
        crc32=zlib.crc32(plain, crb.crc32),
        adler32=zlib.adler32(plain, crb.adler32),
        ended=ended,
        resume=resume,
    )
    return csb, target


def terminated(crb: Crb, code: CompletionCode) -> Outcome:
    csb = CsbBody(
        code=code, extension=TERMINATED, processed_bytes=0, target_bytes=0, crc32=crb.crc32, adler32=crb.adler32
    )
    return csb, b""


def fault_of(crb: Crb, outcome: Outcome) -> int | None:
    """The address of the first absent page that this outcome takes: source, target, status block."""
    csb, target = outcome
    operands = (
        (SOURCE_ADDRESS, crb.source_pages, csb.processed_bytes),
        (TARGET_ADDRESS, crb.target_pages, len(target)),
    )
    for start, pages, length in operands:
        for page in range(-(-length // PAGE_BYTES)):
            if page // 8 < len(pages) and not pages[page // 8] >> page % 8 & 1:
                return start + page * PAGE_BYTES
    return None if crb.csb_present and crb.csb_address else crb.csb_address
