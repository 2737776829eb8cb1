"""The device link: a client process and its LPAR's kernel. System calls on /dev/crypto/nx-gzip and sysfs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from protocol.codes import FaultOutcome, HcallCode, Instruction, KernelReason, Signal
from protocol.message import I32, I64, U32, U64, PasteAddress, Reply, Request, Text
from protocol.paste_messages import CsbBody

Path = Annotated[str, Field(strict=True, max_length=4096)]


class OpenDevice(Request):
    """open("/dev/crypto/nx-gzip", O_RDWR)."""

    type: Literal["open_device"] = "open_device"


class DeviceOpened(Reply):
    type: Literal["device_opened"] = "device_opened"
    descriptor: U32


class TxWinOpen(Request):
    """ioctl(descriptor, VAS_TX_WIN_OPEN, {version, vas_id, flags}) called on `processor_id`."""

    type: Literal["tx_win_open"] = "tx_win_open"
    descriptor: U32
    version: I64 = 1
    vas_id: I64 = -1
    flags: I64 = 0
    processor_id: U32 = 0
    thread_id: U64 = 0


class WindowOpened(Reply):
    type: Literal["window_opened"] = "window_opened"
    window_id: U32


class Mmap(Request):
    """mmap(NULL, length, PROT_READ|PROT_WRITE, MAP_SHARED, descriptor, offset)."""

    type: Literal["mmap"] = "mmap"
    descriptor: U32
    length_bytes: I64 = 4096
    offset_bytes: I64 = 0


class Mapped(Reply):
    type: Literal["mapped"] = "mapped"
    mapping: U32
    address: PasteAddress


class Fault(Request):
    """A page fault in `mapping`: the client touched it and found nothing behind its address."""

    type: Literal["fault"] = "fault"
    mapping: U32
    instruction: Instruction


class FaultHandled(Reply):
    type: Literal["fault_handled"] = "fault_handled"
    outcome: FaultOutcome
    address: PasteAddress | None = None


class Unmap(Request):
    """munmap."""

    type: Literal["unmap"] = "unmap"
    mapping: U32


class CloseDescriptor(Request):
    """close. The window lives on while a mapping exists."""

    type: Literal["close_descriptor"] = "close_descriptor"
    descriptor: U32


class UpdateCsb(Request):
    """The kernel writes a status block into the process's memory (vas_update_csb): CC 250, CE 0x40, an address.

    The process is the one that opened the window; `csb_address` tells it which request this is about.
    """

    type: Literal["update_csb"] = "update_csb"
    csb_address: U64
    csb: CsbBody


class CsbUpdated(Reply):
    type: Literal["csb_updated"] = "csb_updated"


class RaiseSignal(Request):
    """A signal whose default action ends the process: its windows are closed, and after the answer its session."""

    type: Literal["raise_signal"] = "raise_signal"
    signal: Signal
    address: U64
    thread_id: U64


class SignalTaken(Reply):
    type: Literal["signal_taken"] = "signal_taken"


class ReadFile(Request):
    """Read a whole file of the partition: sysfs, procfs."""

    type: Literal["read_file"] = "read_file"
    path: Path


class FileText(Reply):
    type: Literal["file_text"] = "file_text"
    text: Text


class WriteFile(Request):
    """Write a file of the partition in one call."""

    type: Literal["write_file"] = "write_file"
    path: Path
    text: Text


class Done(Reply):
    type: Literal["done"] = "done"


class OsFailure(Reply):
    """The call failed: the errno a program would see, why, and the hcall's code where one was the cause."""

    type: Literal["os_failure"] = "os_failure"
    errno: I32
    reason: KernelReason
    hcall: HcallCode | None = None
    detail: Text = ""
