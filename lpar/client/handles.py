"""What a process holds of its partition's kernel: descriptors, mapped pages, requests under way, windows."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from lpar.client.pastes import PendingPaste
from lpar.client.request import Csb, Request
from lpar.client.runner import Runner
from lpar.client.system_calls import (
    Descriptor,
    Mapping,
    close_descriptor,
    load,
    mmap,
    paste,
    tx_win_open,
    unmap,
    wait_csb,
)
from lpar.client.tally import PasteTally
from lpar.client.window import WindowState, close_window, map_window, run_on_window
from protocol.clock import SECOND_US
from protocol.message import PasteAddress


def microseconds(seconds: float) -> int:
    """A timeout of the interface on the clock of the core; 0 and less leave no time to wait."""
    return max(0, round(seconds * SECOND_US))


def thread_id() -> int:
    """The id the kernel knows the calling thread by."""
    return threading.get_native_id()


class DeviceFile:
    """An open file of /dev/crypto/nx-gzip. Closing it leaves mapped pages and their window in use."""

    def __init__(self, driver: Runner, descriptor: Descriptor, timeout: float) -> None:
        self._driver = driver
        self._descriptor = descriptor
        self._timeout_us = microseconds(timeout)
        self._closed = False

    @property
    def descriptor(self) -> int:
        """Its number in this process."""
        return self._descriptor.number

    def tx_win_open(self, version: int = 1, vas_id: int = -1, flags: int = 0) -> int:
        """ioctl VAS_TX_WIN_OPEN; `flags` 1 asks for a QoS credit. Returns the window's id, which the ioctl does not.

        Raises KernelFailure: EINVAL (no credit left, or a wrong version), EEXIST (the descriptor has a window),
        EBUSY (windows that lost their credit come first, or the partition migrates), EIO (the hypervisor refused).
        """
        return self._driver.run(
            tx_win_open(self._descriptor, version, vas_id, flags, thread_id(), self._timeout_us)
        )  # fmt: skip

    def mmap(self, length: int = 4096, offset: int = 0) -> PasteArea:
        """Map the window's paste page.

        Raises KernelFailure: EINVAL (longer than a page, an offset, or no window), EACCES (the window is closed
        until its credit comes back).
        """
        mapping = self._driver.run(mmap(self._descriptor, length, offset, PasteTally(), self._timeout_us))
        return PasteArea(self._driver, mapping, self._timeout_us)

    def close(self) -> None:
        """close. A second one does nothing. Raises KernelFailure."""
        if not self._closed:
            self._closed = True
            self._driver.run(close_descriptor(self._descriptor, self._timeout_us))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PasteArea:
    """A mapped paste page. It keeps its window in existence."""

    def __init__(self, driver: Runner, mapping: Mapping, timeout_us: int) -> None:
        self._driver = driver
        self._mapping = mapping
        self._timeout_us = timeout_us

    @property
    def address(self) -> PasteAddress | None:
        """The paste address behind the page as far as this process has found out; None after a failed fault."""
        return self._mapping.address

    def paste(self, request: Request) -> Pending:
        """copy and paste: returns once the request is in an NX unit's receive FIFO.

        Faults are taken to the kernel on the way. Raises PasteRefused (CR0 = 0), BusError (SIGBUS), MessageRefused,
        TimeoutError, ValueError on an unmapped page.
        """
        pending = self._driver.run(paste(self._mapping, request, self._timeout_us))
        return Pending(self._driver, pending, self._mapping.tally, self._timeout_us)

    def load(self) -> None:
        """Read from the page. Raises BusError where no active window is behind it."""
        self._driver.run(load(self._mapping, self._timeout_us))

    def unmap(self) -> None:
        """munmap. A second one does nothing."""
        self._driver.run(unmap(self._mapping, self._timeout_us))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unmap()


class Pending:
    """An accepted request; its CSB is on the way."""

    def __init__(self, driver: Runner, pending: PendingPaste, tally: PasteTally, timeout_us: int) -> None:
        self._driver = driver
        self._pending = pending
        self._tally = tally
        self._timeout_us = timeout_us

    @property
    def number(self) -> int:
        """The number of the attempt that was accepted."""
        return self._pending.number

    def wait(self, timeout: float | None = None) -> Csb:
        """The CSB, once the request has completed or, with code 250, met an absent page.

        Raises TimeoutError, after which it may be called again, RequestLost, and SegmentationFault where the kernel
        could not write the CSB.
        """
        timeout_us = self._timeout_us if timeout is None else microseconds(timeout)
        return self._driver.run(wait_csb(self._pending, self._tally, timeout_us, keep=True))


class Window:
    """A window and its page, for many requests one after the other. Threads may share it: they take turns."""

    def __init__(self, driver: Runner, state: WindowState, timeout: float) -> None:
        self._driver = driver
        self._state = state
        self._timeout_us = microseconds(timeout)

    @property
    def window_id(self) -> int:
        """The id it was opened with; a window that was closed and reopened by the kernel has another one since."""
        return self._state.window_id

    @property
    def area(self) -> PasteArea | None:
        """Its mapped page."""
        mapping = self._state.mapping
        return None if mapping is None else PasteArea(self._driver, mapping, self._timeout_us)

    def map(self) -> PasteArea:
        """Map the page; once is enough. Raises KernelFailure (EACCES while the window is closed)."""
        mapping = self._driver.run(map_window(self._state, self._timeout_us))
        return PasteArea(self._driver, mapping, self._timeout_us)

    def run(self, request: Request, timeout: float | None = None) -> Csb:
        """Paste, again while it is refused, and wait for the CSB.

        A CSB of code 250 is the caller's to deal with: `request.touched(csb.fault_address)`, and run again. Raises
        PasteRefused where every try up to `timeout` seconds was refused, TimeoutError, BusError, KernelFailure,
        MessageRefused, SegmentationFault.
        """
        timeout_us = self._timeout_us if timeout is None else microseconds(timeout)
        return self._driver.run(run_on_window(self._state, request, timeout_us))

    def close(self) -> None:
        """Unmap and close. A second one does nothing."""
        self._driver.run(close_window(self._state, self._timeout_us))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
