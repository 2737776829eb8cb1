"""The interface as the kernel gives it, as procedures: files, descriptors, mappings, pastes and the faults they take.

Names, errnos and orders are those of vas-api.c; what a user of the real interface cannot see stays invisible.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from lpar.client.errors import BusError, PasteRefused, PeerError, RequestLost, kernel_failure
from lpar.client.pastes import PasteState, PendingPaste
from lpar.client.request import Csb, Request
from lpar.client.steps import Answer, Await, Call, Procedure, R, Submit, now, pause
from lpar.client.tally import PasteTally
from protocol import device_messages as device
from protocol.clock import MILLISECOND_US
from protocol.codes import FaultOutcome, Instruction
from protocol.device_messages import OsFailure
from protocol.message import PasteAddress
from protocol.message import Request as Message

PATH_MOST_BYTES = 4_095
TEXT_MOST_BYTES = 65_536
REFAULT_FIRST_US = 1 * MILLISECOND_US
REFAULT_MOST_US = 50 * MILLISECOND_US


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open file of the device, valid in the session `epoch`."""

    number: int
    epoch: int


@dataclass(slots=True, eq=False)
class Mapping:
    """One page of paste address space. `address` is None while the page table is known to hold nothing.

    The kernel does not say when it takes the address away: the next paste finds out, from its unit or, where that does
    not answer in time, from the kernel.
    """

    number: int
    epoch: int
    address: PasteAddress | None
    tally: PasteTally = field(default_factory=PasteTally)
    unmapped: bool = False


def call(body: Message, expected: type[R], epoch: int | None, deadline_us: int) -> Procedure[tuple[R, int]]:
    """One system call: its reply and the session it was made in.

    Raises KernelFailure, TimeoutError, MessageRefused, PeerError.
    """
    answer: Answer = yield Call(body, epoch, deadline_us)
    reply = answer.reply
    if isinstance(reply, OsFailure):
        raise kernel_failure(reply)
    if not isinstance(reply, expected):
        raise PeerError(f"the kernel answered {body.type} with {reply.type}")
    return reply, answer.epoch


def read_file(path: str, timeout_us: int) -> Procedure[str]:
    """The text of a file of the partition. Raises OSError with ENAMETOOLONG beyond 4,095 bytes of path."""
    _check_path(path)
    deadline_us = (yield from now()) + timeout_us
    reply, _epoch = yield from call(device.ReadFile(path=path), device.FileText, None, deadline_us)
    return reply.text


def write_file(path: str, text: str, timeout_us: int) -> Procedure[None]:
    """Write a file of the partition in one call. Raises OSError: ENAMETOOLONG, EFBIG (more than 65,536 bytes)."""
    _check_path(path)
    if len(text.encode()) > TEXT_MOST_BYTES:
        raise OSError(errno.EFBIG, f"at most {TEXT_MOST_BYTES} bytes in one call")
    deadline_us = (yield from now()) + timeout_us
    yield from call(device.WriteFile(path=path, text=text), device.Done, None, deadline_us)


def open_device(timeout_us: int) -> Procedure[Descriptor]:
    """open("/dev/crypto/nx-gzip", O_RDWR)."""
    deadline_us = (yield from now()) + timeout_us
    reply, epoch = yield from call(device.OpenDevice(), device.DeviceOpened, None, deadline_us)
    return Descriptor(reply.descriptor, epoch)


def tx_win_open(
    descriptor: Descriptor, version: int, vas_id: int, flags: int, thread_id: int, timeout_us: int
) -> Procedure[int]:
    """ioctl(VAS_TX_WIN_OPEN): the id of the window."""
    for name, value in (("version", version), ("vas_id", vas_id), ("flags", flags)):
        if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
            raise ValueError(f"{name} is a whole number of 64 bits, not {value!r:.40}")
    deadline_us = (yield from now()) + timeout_us
    body = device.TxWinOpen(
        descriptor=descriptor.number, version=version, vas_id=vas_id, flags=flags, thread_id=thread_id
    )
    reply, _epoch = yield from call(body, device.WindowOpened, descriptor.epoch, deadline_us)
    return reply.window_id


def mmap(
    descriptor: Descriptor, length_bytes: int, offset_bytes: int, tally: PasteTally, timeout_us: int
) -> Procedure[Mapping]:
    """mmap of the descriptor's window."""
    deadline_us = (yield from now()) + timeout_us
    body = device.Mmap(descriptor=descriptor.number, length_bytes=length_bytes, offset_bytes=offset_bytes)
    reply, epoch = yield from call(body, device.Mapped, descriptor.epoch, deadline_us)
    return Mapping(reply.mapping, epoch, reply.address, tally)


def unmap(mapping: Mapping, timeout_us: int) -> Procedure[None]:
    """munmap. A second one does nothing."""
    if mapping.unmapped:
        return
    mapping.unmapped = True
    deadline_us = (yield from now()) + timeout_us
    yield from call(device.Unmap(mapping=mapping.number), device.Done, mapping.epoch, deadline_us)


def close_descriptor(descriptor: Descriptor, timeout_us: int) -> Procedure[None]:
    """close. The window lives until its last mapping goes too."""
    deadline_us = (yield from now()) + timeout_us
    body = device.CloseDescriptor(descriptor=descriptor.number)
    yield from call(body, device.Done, descriptor.epoch, deadline_us)


def load(mapping: Mapping, timeout_us: int) -> Procedure[None]:
    """Read from the page. Raises BusError where the window is not active or there is none."""
    _check_mapped(mapping)
    deadline_us = (yield from now()) + timeout_us
    yield from _fault(mapping, Instruction.LOAD, deadline_us)


def paste(mapping: Mapping, request: Request, timeout_us: int) -> Procedure[PendingPaste]:
    """copy and paste: an accepted request.

    A fault is taken to the kernel; where it put the address back the paste is run again, as the CPU would. A unit
    that is not programmed for the address yet faults again at the same one: then the next try waits a little longer
    each time. After a unit's silence the page is no longer trusted: the next paste asks the kernel first, which may
    have moved the window. Raises PasteRefused, BusError, MessageRefused, TimeoutError, KernelFailure (ENODEV: the
    partition was restarted).
    """
    _check_mapped(mapping)
    deadline_us = (yield from now()) + timeout_us
    refault_us = REFAULT_FIRST_US
    mapping.tally.pastes += 1
    while True:
        before = mapping.address
        if before is not None:
            try:
                pending = yield from _attempt(mapping, before, request, deadline_us)
            except TimeoutError:
                mapping.address = None
                raise
            if pending is not None:
                return pending
        mapping.tally.faults += 1
        yield from _fault(mapping, Instruction.PASTE, deadline_us)
        mapping.tally.remaps += 1
        if mapping.address == before:
            yield from pause(refault_us)
            refault_us = min(2 * refault_us, REFAULT_MOST_US)
            if (yield from now()) >= deadline_us:
                raise TimeoutError("the NX unit kept faulting at the address that the kernel says is right")


def wait_csb(pending: PendingPaste, tally: PasteTally, timeout_us: int, *, keep: bool) -> Procedure[Csb]:
    """Wait until a request has completed. Raises RequestLost, TimeoutError.

    `keep`: after the latter it may be called again; otherwise the request is given up.
    """
    deadline_us = (yield from now()) + timeout_us
    sent = pending.sent
    try:
        yield Await(pending, deadline_us, keep)
    finally:
        tally.repeats += pending.sent - sent
    if pending.csb is None:
        tally.lost += 1
        raise RequestLost(f"{pending.address.unit} no longer knows the request")
    return pending.csb


def _attempt(
    mapping: Mapping, address: PasteAddress, request: Request, deadline_us: int
) -> Procedure[PendingPaste | None]:
    """One paste instruction: the accepted request, or None for a page fault."""
    pending: PendingPaste = yield Submit(address, request, deadline_us)
    mapping.tally.repeats += max(0, pending.sent - 1)
    if pending.failure is not None:
        raise pending.failure
    if pending.state is PasteState.FAULTED:
        return None
    if pending.state in (PasteState.REFUSED, PasteState.LOST):
        mapping.tally.refused += 1
        raise PasteRefused
    mapping.tally.accepted += 1
    return pending


def _fault(mapping: Mapping, instruction: Instruction, deadline_us: int) -> Procedure[None]:
    """The page fault handler: returns once the page has an address again."""
    body = device.Fault(mapping=mapping.number, instruction=instruction)
    handled, _epoch = yield from call(body, device.FaultHandled, mapping.epoch, deadline_us)
    if handled.outcome is FaultOutcome.REMAPPED and handled.address is not None:
        mapping.address = handled.address
        return
    mapping.address = None
    mapping.tally.failed_faults += 1
    if handled.outcome is FaultOutcome.PASTE_FAILED:
        mapping.tally.refused += 1
        raise PasteRefused(FaultOutcome.PASTE_FAILED)
    raise BusError(FaultOutcome.SIGBUS.meaning)


def _check_path(path: str) -> None:
    if len(path.encode()) > PATH_MOST_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"a path has at most {PATH_MOST_BYTES} bytes")


def _check_mapped(mapping: Mapping) -> None:
    if mapping.unmapped:
        raise ValueError("the page was unmapped")
