"""A pretended kernel of a partition: descriptors, windows, mappings and files, told by the test what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocol import device_messages as device
from protocol.codes import (
    REASON_ERRNO,
    CompletionCode,
    CompletionExtension,
    FaultOutcome,
    HcallCode,
    Instruction,
    KernelReason,
    Signal,
)
from protocol.effects import Effects, Send
from protocol.listener import Listener
from protocol.message import Message, PasteAddress, Request
from protocol.paste_messages import CsbBody, Paste
from protocol.session import Answered, Called, Closed, Ending, Opened, Session, Terms
from protocol.wire import Envelope
from tests.client.unit import FakeUnit

GZIP = "/sys/devices/virtual/misc/vas/vas0/gzip/"
TOTAL = GZIP + "default_capabilities/nr_total_credits"
USED = GZIP + "default_capabilities/nr_used_credits"
LIMIT = "/sys/devices/vio/ibm,compression-v1/nx_gzip_caps/req_max_processed_len"
WRITE_ONLY = GZIP + "qos_capabilities/update_total_credits"
KERNEL_TERMS = Terms(by_beats=False)


def failure(reason: KernelReason, hcall: HcallCode | None = None) -> device.OsFailure:
    return device.OsFailure(errno=REASON_ERRNO[reason], reason=reason, hcall=hcall)


@dataclass
class FakeWindow:
    """One open window."""

    flags: int
    address: PasteAddress
    active: bool = True
    backed: bool = False
    references: int = 1


@dataclass
class FakeKernel:
    """`units` are where windows go in turn. `failures` are given, in order, instead of carrying out calls by name.
    `wrong_answers` come before anything; `delay` is by request, in microseconds. A fault's window credit goes back
    `credit_late_us` after its status block was written. `raises_after_us`: that long after a
    write the process is ended.
    """

    units: list[FakeUnit]
    entropy: Callable[[int], bytes]
    total: int = 40
    failures: list[tuple[str, device.OsFailure]] = field(default_factory=list)
    wrong_answers: list[Message] = field(default_factory=list)
    executed: list[Request] = field(default_factory=list)
    on_lost_context: bool = True
    mute: bool = False
    delay: dict[str, int] = field(default_factory=dict)
    later: Callable[[int, Callable[[], None]], None] | None = None
    credit_late_us: int = 0
    raises_after_us: int | None = None
    signals: int = 0
    session: Session | None = None
    now_us: int = 0
    answers: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.effects = Effects()
        self.listener = Listener("device", KERNEL_TERMS, self.effects, self.entropy)
        self.descriptors: dict[int, FakeWindow | None] = {}
        self.mappings: dict[int, FakeWindow] = {}
        self.written: list[tuple[str, str]] = []
        self.files: dict[str, str] = {LIMIT: "1048576\n"}
        self.odd_files: dict[str, str] = {}
        self.ended = 0
        self._number = 0

    def restart(self) -> None:
        """The partition is booted anew: nobody's session or descriptor is known."""
        for window in self.windows:
            self._revoke(window)
        epochs = dict.fromkeys(("", *self.listener.epochs), max(self.listener.epochs.values(), default=0) + 7)
        self.listener = Listener("device", KERNEL_TERMS, self.effects, self.entropy)
        self.listener.epochs = epochs
        self.descriptors.clear()
        self.mappings.clear()

    @property
    def windows(self) -> list[FakeWindow]:
        found = [window for window in self.descriptors.values() if window is not None]
        return found + [window for window in self.mappings.values() if window not in found]

    def suspend(self) -> None:
        """Every window loses its credit."""
        for window in self.windows:
            window.active, window.backed = False, False
            self._revoke(window)
        self.total = 0

    def resume(self, unit: FakeUnit | None = None) -> None:
        """Every window gets a credit back, and a new address."""
        self.total = 40
        for window in self.windows:
            if not window.active:
                window.active = True
                window.address = self._allocate(unit)

    def move(self, unit: FakeUnit) -> None:
        """Every window's context goes to a unit; mappings find out by faulting."""
        for window in self.windows:
            self._revoke(window)
            window.backed = False
            window.address = self._allocate(unit)

    def page_fault(self, unit: FakeUnit, paste: Paste, address: int) -> None:
        """The fault interrupt of a window: fetch the request, write its status block."""
        if self.credit_late_us and self.later is not None:
            self.later(self.credit_late_us, lambda: unit.return_credit(paste))
        else:
            unit.return_credit(paste)
        if paste.crb.csb_address:
            self.update_csb(paste.crb.csb_address, address)
        else:
            self.raise_signal(0)

    def update_csb(self, csb_address: int, fault_address: int) -> None:
        """vas_update_csb."""
        csb = CsbBody(
            code=CompletionCode.TRANSLATION_FAULT,
            extension=int(CompletionExtension.TERMINATED),
            processed_bytes=0,
            target_bytes=0,
            crc32=0,
            adler32=1,
            fault_address=fault_address,
        )
        self._tell(device.UpdateCsb(csb_address=csb_address, csb=csb))

    def raise_signal(self, address: int) -> None:
        """End the process: its windows go at once."""
        self._closed()
        self.signals += 1
        self._tell(device.RaiseSignal(signal=Signal.SIGSEGV, address=address, thread_id=7))

    def _tell(self, body: Request) -> None:
        if self.session is not None:
            self.listener.call(self.session, body, self.now_us)

    def receive(self, peer: bytes, envelope: Envelope, now_us: int) -> None:
        self.now_us = now_us
        for event in self.listener.receive(peer, envelope, now_us):
            if isinstance(event, Called):
                self._call(event)
            elif isinstance(event, Answered):
                self.answers.append(event.reply)
                if isinstance(event.reply, device.SignalTaken):
                    self.listener.close(event.session, Ending.KILLED)
            elif isinstance(event, Opened):
                self.session = event.session
            elif isinstance(event, Closed):
                self.ended += 1
                self._closed()

    def tick(self, now_us: int) -> None:
        self.now_us = now_us
        self.listener.tick(now_us)

    def take(self) -> list[Send]:
        """What it says."""
        sends = [wish for wish in self.effects.take().transmissions if isinstance(wish, Send)]
        return [] if self.mute else sends

    def _call(self, event: Called) -> None:
        reply = self._reply(event.body)
        listener = self.listener
        wait_us = self.delay.get(event.body.type, 0)
        if wait_us and self.later is not None:
            self.later(wait_us, lambda: listener.answer(event.session, event.number, reply))
        else:
            listener.answer(event.session, event.number, reply)

    def _closed(self) -> None:
        for window in self.windows:
            self._revoke(window)
        self.descriptors.clear()
        self.mappings.clear()

    def _reply(self, body: Request) -> Message:
        self.executed.append(body)
        if self.wrong_answers:
            return self.wrong_answers.pop(0)
        for place, (name, answer) in enumerate(self.failures):
            if name == body.type:
                del self.failures[place]
                return answer
        match body:
            case device.OpenDevice():
                self._number += 1
                self.descriptors[self._number] = None
                return device.DeviceOpened(descriptor=self._number)
            case device.TxWinOpen():
                return self._open(body)
            case device.Mmap():
                return self._mmap(body)
            case device.Fault():
                return self._fault(body)
            case device.Unmap():
                return self._unmap(body.mapping)
            case device.CloseDescriptor():
                return self._close(body.descriptor)
            case device.ReadFile():
                return self._read(body.path)
            case _:
                assert isinstance(body, device.WriteFile)
                self.written.append((body.path, body.text))
                if self.raises_after_us is not None and self.later is not None:
                    self.later(self.raises_after_us, lambda: self.raise_signal(0xBAD))
                return device.Done()

    def _open(self, body: device.TxWinOpen) -> Message:
        if body.descriptor not in self.descriptors:
            return failure(KernelReason.BAD_DESCRIPTOR)
        if self.descriptors[body.descriptor] is not None:
            return failure(KernelReason.WINDOW_EXISTS)
        if body.version != 1:
            return failure(KernelReason.VERSION)
        if len(self.windows) >= self.total:
            return failure(KernelReason.NO_CREDIT)
        window = FakeWindow(body.flags, self._allocate(None))
        self.descriptors[body.descriptor] = window
        return device.WindowOpened(window_id=window.address.window_id)

    def _mmap(self, body: device.Mmap) -> Message:
        window = self.descriptors.get(body.descriptor)
        if window is None:
            return failure(KernelReason.NO_WINDOW)
        if body.length_bytes > 4096:
            return failure(KernelReason.LENGTH)
        if not window.active:
            return failure(KernelReason.INACTIVE)
        self._number += 1
        self.mappings[self._number] = window
        window.references += 1
        window.backed = True
        return device.Mapped(mapping=self._number, address=window.address)

    def _fault(self, body: device.Fault) -> Message:
        window = self.mappings.get(body.mapping)
        if window is None:
            return device.FaultHandled(outcome=FaultOutcome.SIGBUS)
        if window.active:
            window.backed = True
            return device.FaultHandled(outcome=FaultOutcome.REMAPPED, address=window.address)
        is_paste = body.instruction is Instruction.PASTE
        return device.FaultHandled(outcome=FaultOutcome.PASTE_FAILED if is_paste else FaultOutcome.SIGBUS)

    def _unmap(self, mapping: int) -> Message:
        if mapping not in self.mappings:
            return failure(KernelReason.BAD_DESCRIPTOR)
        self._drop(self.mappings.pop(mapping))
        return device.Done()

    def _close(self, descriptor: int) -> Message:
        if descriptor not in self.descriptors:
            return failure(KernelReason.BAD_DESCRIPTOR)
        window = self.descriptors.pop(descriptor)
        if window is not None:
            self._drop(window)
        return device.Done()

    def _drop(self, window: FakeWindow) -> None:
        window.references -= 1
        if not window.references:
            self._revoke(window)

    def _read(self, path: str) -> Message:
        files = {TOTAL: f"{self.total}\n", USED: f"{len(self.windows)}\n", **self.files, **self.odd_files}
        if path == WRITE_ONLY:
            return failure(KernelReason.NOT_READABLE)
        if path not in files:
            return failure(KernelReason.NO_FILE)
        return device.FileText(text=files[path])

    def _allocate(self, unit: FakeUnit | None) -> PasteAddress:
        self._number += 1
        unit = unit or self.units[self._number % len(self.units)]
        address = PasteAddress(
            address=self._number << 16,
            unit=unit.name,
            endpoints={"local": f"ipc://{unit.name}"},
            window_id=self._number,
            token=self.entropy(16),
        )
        if self.on_lost_context:
            unit.program(address)
        return address

    def _revoke(self, window: FakeWindow) -> None:
        for unit in self.units:
            unit.close(window.address.token)
