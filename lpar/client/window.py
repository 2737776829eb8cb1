"""A window with everything around it, as procedures: descriptor, window, mapping, retries, deadlines."""

from __future__ import annotations

from dataclasses import dataclass, field

from lpar.client.errors import KernelFailure, PasteRefused, RequestLost
from lpar.client.request import Csb, Request
from lpar.client.steps import Acquire, IfCancelled, Mutex, Procedure, now, pause
from lpar.client.system_calls import (
    Descriptor,
    Mapping,
    close_descriptor,
    mmap,
    open_device,
    paste,
    tx_win_open,
    unmap,
    wait_csb,
)
from lpar.client.tally import PasteTally
from protocol.clock import MILLISECOND_US
from protocol.codes import FaultOutcome, KernelReason
from protocol.device_messages import CloseDescriptor

QOS_CREDIT_FLAG = 0x1
"""VAS_TX_WIN_FLAG_QOS_CREDIT."""
PAGE_BYTES = 4096
RETRY_FIRST_US = 50
RETRY_BUSY_MOST_US = 1 * MILLISECOND_US
UNANSWERED_US = 500 * MILLISECOND_US
"""A unit that was heard this recently is not one that does not answer."""
RETRY_CLOSED_MOST_US = 20 * MILLISECOND_US
"""While the kernel says that the window is closed each try costs it a fault: they come less often."""


@dataclass(slots=True, eq=False)
class WindowState:
    """An open window. One thread at a time uses it: it has one window credit."""

    descriptor: Descriptor
    window_id: int
    tally: PasteTally
    mapping: Mapping | None = None
    mutex: Mutex = field(default_factory=Mutex)
    closed: bool = False


def open_window(
    *, qos: bool, vas_id: int, thread_id: int, timeout_us: int, tally: PasteTally
) -> Procedure[WindowState]:
    """Open the device and a window on it. Raises KernelFailure; nothing stays open then."""
    descriptor = yield from open_device(timeout_us)
    yield IfCancelled(CloseDescriptor(descriptor=descriptor.number))
    flags = QOS_CREDIT_FLAG if qos else 0
    try:
        window_id = yield from tx_win_open(descriptor, 1, vas_id, flags, thread_id, timeout_us)
    except Exception:
        # From here on the descriptor is being closed: a second close could hit another file of the same number.
        yield IfCancelled(None)
        yield from _close_quietly(descriptor, timeout_us)
        raise
    yield IfCancelled(None)
    return WindowState(descriptor, window_id, tally)


def map_window(window: WindowState, timeout_us: int) -> Procedure[Mapping]:
    """Map the window's page, once. Raises KernelFailure: EACCES while the window is closed for lack of credit."""
    if window.closed:
        raise ValueError("the window was closed")
    if window.mapping is None:
        window.mapping = yield from mmap(window.descriptor, PAGE_BYTES, 0, window.tally, timeout_us)
    return window.mapping


def run_on_window(window: WindowState, request: Request, timeout_us: int) -> Procedure[Csb]:
    """One request from paste to CSB, mapping the window first if need be.

    A refused paste is tried again until the deadline, and so is the mapping of a window that has lost its credit. A
    request that met an absent page is not: its CSB says so.
    Raises PasteRefused, TimeoutError, BusError, KernelFailure, MessageRefused.
    """
    deadline_us = (yield from now()) + timeout_us
    yield Acquire(window.mutex, deadline_us)
    try:
        mapping = yield from _map_in_time(window, timeout_us, deadline_us)
        return (yield from paste_and_wait(mapping, request, timeout_us, deadline_us))
    finally:
        window.mutex.release()


def _map_in_time(window: WindowState, timeout_us: int, deadline_us: int) -> Procedure[Mapping]:
    """Map the window's page, again while it is closed for lack of credit. Raises PasteRefused at the deadline."""
    wait_us = RETRY_FIRST_US
    while True:
        try:
            return (yield from map_window(window, timeout_us))
        except KernelFailure as failure:
            if failure.reason is not KernelReason.INACTIVE:
                raise
            if (yield from now()) + wait_us >= deadline_us:
                raise PasteRefused(FaultOutcome.PASTE_FAILED) from failure
        yield from pause(wait_us)
        wait_us = min(2 * wait_us, RETRY_CLOSED_MOST_US)


def paste_and_wait(
    mapping: Mapping, request: Request, patience_us: int, deadline_us: int, *, endure_closed: bool = True
) -> Procedure[Csb]:
    """Paste, again after each refusal for `patience_us`, and wait for the CSB until `deadline_us`.

    A request that its unit lost is pasted again. Without `endure_closed` the first refusal because the window is
    closed is the last. Raises what `paste` raises, and RequestLost.
    """
    give_up_us = min((yield from now()) + patience_us, deadline_us)
    wait_us = RETRY_FIRST_US
    refused_us = 0
    refusal: PasteRefused | RequestLost | None = None
    while True:
        try:
            pending = yield from paste(mapping, request, deadline_us - (yield from now()))
            csb = yield from wait_csb(pending, mapping.tally, deadline_us - (yield from now()), keep=False)
            mapping.tally.service.observe(pending.settled_us - pending.first_sent_us)
            return csb
        except (PasteRefused, RequestLost) as failure:
            refusal = failure
        except TimeoutError:
            # Nobody faults a paste whose unit is dead, though its page may be elsewhere by now: the next one asks.
            mapping.address = None
            # A try that the deadline cut short, after refusals, says nothing about the unit's health.
            if refusal is not None and (yield from now()) - refused_us < UNANSWERED_US:
                raise refusal from None
            raise
        closed = isinstance(refusal, PasteRefused) and refusal.fault is FaultOutcome.PASTE_FAILED
        refused_us = yield from now()
        if (closed and not endure_closed) or refused_us + wait_us >= give_up_us:
            raise refusal
        yield from pause(wait_us)
        wait_us = min(2 * wait_us, RETRY_CLOSED_MOST_US if closed else RETRY_BUSY_MOST_US)


def close_window(window: WindowState, timeout_us: int) -> Procedure[None]:
    """Unmap and close, once. A window that died with its partition's kernel is closed already."""
    if window.closed:
        return
    window.closed = True
    try:
        if window.mapping is not None:
            yield IfCancelled(CloseDescriptor(descriptor=window.descriptor.number))
            yield from unmap(window.mapping, timeout_us)
            yield IfCancelled(None)
        yield from close_descriptor(window.descriptor, timeout_us)
    except KernelFailure as failure:
        if failure.reason is not KernelReason.DEAD:
            raise


def _close_quietly(descriptor: Descriptor, timeout_us: int) -> Procedure[None]:
    """Close after a failure, which matters more than this one's."""
    try:
        yield from close_descriptor(descriptor, timeout_us)
    except OSError:
        return
