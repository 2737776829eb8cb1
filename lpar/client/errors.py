"""What goes wrong for a client, by cause.

Exception
 |- OSError
 |   |- KernelFailure            the kernel answered an errno; `reason` and `hcall` say why
 |   |   |- FileMissing          ENOENT; also a FileNotFoundError
 |   |   |- FileForbidden        EACCES; also a PermissionError
 |   |   `- WindowExists         EEXIST; also a FileExistsError
 |   |- PermissionError          (built in) no connection comes about because of the keys; the text says what to do
 |   `- TimeoutError             (built in) nobody answered before the deadline; the text names what was awaited
 |- ClientError
 |   |- PasteRefused             CR0 = 0: nothing was queued
 |   |- BusError                 SIGBUS: nothing is behind the address
 |   |- SegmentationFault        SIGSEGV: the kernel ended this process; `reconnect()` makes a new one
 |   |- RequestLost              the NX unit forgot an accepted request; no CSB will come
 |   |- MessageRefused           the peer refused a message for good; `code` says why
 |   |- PeerError                the peer answered with something that is no answer to the question
 |   |- LparClosed               this Lpar was closed
 |   |- ForkedProcess            this Lpar belongs to the parent process
 |   |- NxError                  modes "nx" and "mix": the accelerator could not be used; `reason` says why
 |   `- CodecMissing             a software codec that the data needs is not installed
 `- ValueError
     |- KeysError                a key file is wrong or lacks a key (`protocol.keys`)
     `- DataError                the data cannot be decompressed
         |- CorruptData          damaged: a checksum, a length or the format does not fit
         |- TruncatedData        it ends early
         `- OutputLimit          the output would exceed `max_bytes`
"""

from __future__ import annotations

import errno

from protocol.codes import FallbackReason, FaultOutcome, HcallCode, KernelReason
from protocol.device_messages import OsFailure, RaiseSignal
from protocol.refusals import RefusalCode


class KernelFailure(OSError):
    """A system call failed: `errno` as a program sees it, the kernel's `reason`, the code of the hcall that failed."""

    def __init__(self, number: int, text: str, reason: KernelReason, hcall: HcallCode | None = None) -> None:
        super().__init__(number, text)
        self.reason = reason
        self.hcall = hcall


class FileMissing(KernelFailure, FileNotFoundError):
    """ENOENT."""


class FileForbidden(KernelFailure, PermissionError):
    """EACCES."""


class WindowExists(KernelFailure, FileExistsError):
    """EEXIST: the descriptor already has a window."""


_BY_ERRNO: dict[int, type[KernelFailure]] = {
    errno.ENOENT: FileMissing,
    errno.EACCES: FileForbidden,
    errno.EEXIST: WindowExists,
}


def kernel_failure(failure: OsFailure) -> KernelFailure:
    """The exception for an errno that came from the kernel."""
    text = failure.reason.meaning
    if failure.hcall is not None:
        text += f" ({failure.hcall.name})"
    if failure.detail:
        text += f": {failure.detail}"
    return _BY_ERRNO.get(failure.errno, KernelFailure)(failure.errno, text, failure.reason, failure.hcall)


def session_dead() -> KernelFailure:
    """The session is over, by a restart of the partition or for the want of a connection: what it held is gone."""
    return KernelFailure(errno.ENODEV, KernelReason.DEAD.meaning, KernelReason.DEAD)


class ClientError(Exception):
    """The base of what is neither an errno nor a wrong value."""


class PasteRefused(ClientError):
    """CR0 = 0: nothing was queued; paste again later.

    As on the real machine it does not tell a busy accelerator from a window that lost its credit; sysfs does
    (nr_used_credits above nr_total_credits). `fault` is what the kernel's fault handler decided, where it was asked.
    """

    cr0 = 0

    def __init__(self, fault: FaultOutcome | None = None) -> None:
        super().__init__("the paste was refused (CR0 = 0)")
        self.fault = fault


class BusError(ClientError):
    """SIGBUS: no window is behind the mapping, or something other than a paste touched a closed window's page."""


class SegmentationFault(ClientError):
    """A signal of the kernel ended this process: SIGSEGV, because a request's status block could not be written.

    Its windows and descriptors are gone. `address` is the faulting one, `thread_id` the thread that opened the window.
    """

    def __init__(self, raised: RaiseSignal) -> None:
        super().__init__(f"{raised.signal.name} at {raised.address:#x} ended this process: {raised.signal.meaning}")
        self.signal = raised.signal
        self.address = raised.address
        self.thread_id = raised.thread_id


class RequestLost(ClientError):
    """An accepted request will never complete: its NX unit no longer knows it. It may be pasted again."""


class MessageRefused(ClientError):
    """The peer refused a message; it was not carried out."""

    def __init__(self, code: RefusalCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class PeerError(ClientError):
    """The peer answered with a message that is no answer to the question."""


class LparClosed(ClientError):
    """The Lpar was closed, perhaps by another thread while this call waited."""


class ForkedProcess(ClientError):
    """Sockets and windows do not survive a fork: the child process makes an Lpar of its own."""


class NxError(ClientError):
    """The accelerator could not be used, and the mode does not allow software instead. The cause is chained."""

    def __init__(self, reason: FallbackReason) -> None:
        super().__init__(reason.meaning)
        self.reason = reason


class CodecMissing(ClientError):
    """A software codec is not installed."""


class DataError(ValueError):
    """The data cannot be decompressed."""


class CorruptData(DataError):
    """The data is damaged or of another format."""


class TruncatedData(DataError):
    """The data ends early."""


class OutputLimit(DataError):
    """The output would exceed the limit of bytes that the caller set."""
