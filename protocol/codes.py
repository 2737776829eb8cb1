"""Every number that has a name: hcall returns, errnos with their causes, NX completion and function codes.

One member of an enum is one row of the table: value, name and meaning stand together, and the documentation is
printed from here. Sources: arch/powerpc/include/asm/{hvcall,icswx,vas}.h of Linux, the NX gzip user's manual
(section 6) and libnxz's nxu.h.
"""

from __future__ import annotations

from enum import Enum, IntFlag

from protocol.explained import ExplainedCode, ExplainedName
from protocol.kernel_reasons import REASON_ERRNO as REASON_ERRNO
from protocol.kernel_reasons import KernelReason as KernelReason


class HcallCode(ExplainedCode):
    """What an hcall returns (hvcall.h)."""

    H_SUCCESS = 0, "done"
    H_BUSY = 1, "another operation on this window is under way: yield and call again"
    H_CONSTRAINED = 4, "within the partition's limit, but no NX unit can take the window now"
    H_LONG_BUSY_ORDER_1_MSEC = 9900, "call again in about 1 ms"
    H_LONG_BUSY_ORDER_10_MSEC = 9901, "call again in about 10 ms"
    H_LONG_BUSY_ORDER_100_MSEC = 9902, "call again in about 100 ms"
    H_HARDWARE = -1, "the hardware failed"
    H_FUNCTION = -2, "the hypervisor does not offer this function"
    H_PRIVILEGE = -3, "the caller may not use this buffer or function"
    H_PARAMETER = -4, "the first argument is wrong: no such window, window type, query type or fault"
    H_RESOURCE = -16, "the partition's credit limit would be exceeded"
    H_P2 = -55, "the second argument is wrong: credits above the limit per window, or an unknown processor"
    H_P3 = -56, "the third argument is wrong"
    H_COP_HW = -74, "user-mode copy/paste is not offered"
    H_STATE = -75, "the object is in a state that does not allow this: jobs in progress, or no fault outstanding"
    H_IN_USE = -77, "a live session already has this name"

    @property
    def is_busy(self) -> bool:
        """Whether the kernel calls again instead of reporting this code."""
        return self in BUSY_HINT_MS


BUSY_HINT_MS = {
    HcallCode.H_BUSY: 0,
    HcallCode.H_LONG_BUSY_ORDER_1_MSEC: 1,
    HcallCode.H_LONG_BUSY_ORDER_10_MSEC: 10,
    HcallCode.H_LONG_BUSY_ORDER_100_MSEC: 100,
}
"""Busy returns and the delay they hint at; 0 means yield and call again."""

OUT_OF_REACH = HcallCode.H_LONG_BUSY_ORDER_100_MSEC
"""What H_MODIFY_VAS_WINDOW answers where the window's NX unit is taken for dead or hung.

Whoever hears it calls again, or asks for a window at another unit.
"""


class Hcall(ExplainedCode):
    """The hcalls of the VAS and NX interface and their numbers (hvcall.h)."""

    H_SET_PPP = 0xF0, "set the entitled capacity of a shared-processor partition"
    H_JOIN = 0x298, "stand still, with ibm,suspend-me by the last processor, and be moved"
    H_VASI_SIGNAL = 0x2A0, "cancel a migration"
    H_VASI_STATE = 0x2A4, "how far a migration is"
    H_HOME_NODE_ASSOCIATIVITY = 0x2EC, "which chip a processor belongs to"
    H_ALLOCATE_VAS_WINDOW = 0x388, "reserve a window and its credit"
    H_MODIFY_VAS_WINDOW = 0x38C, "bind a window to a process"
    H_DEALLOCATE_VAS_WINDOW = 0x390, "drain a window and give its credit back"
    H_QUERY_VAS_WINDOW = 0x394, "a window's state"
    H_QUERY_VAS_CAPABILITIES = 0x398, "window types and credits of this partition"
    H_QUERY_NX_CAPABILITIES = 0x39C, "request limits of the gzip accelerator"
    H_GET_NX_FAULT = 0x3A0, "fetch a request that stopped at an absent page, which gives its window credit back"


class VasiState(ExplainedCode):
    """The states of a migration stream (H_VASI_* of hvcall.h)."""

    INVALID = 0, "no such stream"
    ENABLED = 1, "under way: the partition goes on working"
    ABORTED = 2, "given up: the partition stays where it is"
    SUSPENDING = 3, "the partition is to suspend itself now"
    SUSPENDED = 4, "the partition stands still"
    RESUMED = 5, "the partition runs at its destination, memory is still being moved"
    COMPLETED = 6, "all is moved"


VASI_SIGNAL_CANCEL = 1
"""The signal of H_VASI_SIGNAL that cancels a migration."""


class CreditType(ExplainedCode):
    """The two pools of LPAR credits; the value is the window type of the hcalls (win_type)."""

    QOS = 0, "guaranteed, set by the administrator, high-priority receive FIFO"
    DEFAULT = 1, "from processor entitlement, normal receive FIFO"


class VasQuery(ExplainedCode):
    """Query types of H_QUERY_VAS_CAPABILITIES."""

    OVERALL = 0, "which window types exist"
    GZIP_QOS = 1, "GZIP QoS windows"
    GZIP_DEFAULT = 2, "GZIP default windows"


class NxQuery(ExplainedCode):
    """Query types of H_QUERY_NX_CAPABILITIES."""

    OVERALL = 0, "which accelerators exist"
    GZIP = 1, "limits of the gzip accelerator"


VAS_DESCRIPTORS = {CreditType.QOS: b"VQosGzip", CreditType.DEFAULT: b"VDefGzip"}
VAS_FEATURE_QOS = 1 << 62
VAS_FEATURE_DEFAULT = 1 << 61
NX_FEATURE_GZIP = 1 << 62
USER_MODE_COPY_PASTE = 0x01
MODIFY_FLAGS = 0x5C00000000000000
"""JOBS_KILL | DR | PR | SF: what Linux always passes to H_MODIFY_VAS_WINDOW."""
HYPERVISOR_CHOOSES = 0xFFFF_FFFF_FFFF_FFFF
"""domain[0] of H_ALLOCATE_VAS_WINDOW when the hypervisor is to choose the chip."""
CREDIT_MAX = 0xFFFF
"""Credit counts are 16 bits wide in the capability buffers."""


class WindowStatus(ExplainedCode):
    """The status byte that H_QUERY_VAS_WINDOW reports."""

    ACTIVE = 0, "pastes are accepted"
    CLOSED = 1, "closed"
    HARDWARE_FAILURE = 2, "inactive because its NX unit failed"
    BUSY = 3, "being modified, deallocated or drained"


class FaultOutcome(ExplainedName):
    """What the kernel's fault handler decided (vas_mmap_fault)."""

    REMAPPED = "remapped", "the window is active: the mapping has its paste address, run the paste again"
    PASTE_FAILED = "paste_failed", "the window is closed: the paste fails with CR0 = 0"
    SIGBUS = "sigbus", "not a paste, or no window behind the mapping: SIGBUS"


class WindowFlag(IntFlag):
    """Why a window of the kernel's list is not active; 0 is active (vas.h)."""

    ACTIVE = 0
    NO_CRED_CLOSE = 1
    MIGRATE_CLOSE = 2


class FunctionCode(ExplainedCode):
    """NX gzip function codes. The lowest bit, added by the sender, forces the low byte-count limit."""

    COMPRESS_FHT = 0x00, "compress, fixed Huffman table"
    COMPRESS_DHT = 0x02, "compress, dynamic Huffman table"
    COMPRESS_FHT_COUNT = 0x04, "compress, fixed table, with counts"
    COMPRESS_DHT_COUNT = 0x06, "compress, dynamic table, with counts"
    COMPRESS_RESUME_FHT = 0x08, "resume compress, fixed table"
    COMPRESS_RESUME_DHT = 0x0A, "resume compress, dynamic table"
    COMPRESS_RESUME_FHT_COUNT = 0x0C, "resume compress, fixed table, with counts"
    COMPRESS_RESUME_DHT_COUNT = 0x0E, "resume compress, dynamic table, with counts"
    DECOMPRESS = 0x10, "decompress"
    DECOMPRESS_SINGLE_BLOCK = 0x12, "decompress one block, then suspend"
    DECOMPRESS_RESUME = 0x14, "resume decompress"
    DECOMPRESS_RESUME_SINGLE_BLOCK = 0x16, "resume decompress for one block"
    WRAP = 0x1E, "copy and compute checksums"

    @property
    def compresses(self) -> bool:
        return self <= FunctionCode.COMPRESS_RESUME_DHT_COUNT

    @property
    def resumes(self) -> bool:
        return (self.compresses and self >= 0x08) or self in (0x14, 0x16)

    @property
    def uses_dynamic_table(self) -> bool:
        return self.compresses and bool(self & 0x02)


class CompletionCode(ExplainedCode):
    """CC of the coprocessor status block (user's manual p. 66-71)."""

    OK = 0, "all source processed"
    DATA_LENGTH = 3, "the byte-count limit suspended the job, or the source ended early or is followed by more"
    INVALID_OPERAND = 8, "an operand is out of range"
    TARGET_SPACE = 13, "the target is too small for the output"
    INVALID_FUNCTION = 17, "unknown function code"
    BYTE_COUNT_MAX = 19, "the source is longer than the unit takes"
    INVALID_CRB = 21, "the request block is malformed"
    TPBC_GREATER = 64, "the output is longer than the input; the output is valid"
    BAD_HUFFMAN_CODE = 66, "a Huffman code is missing or undefined, or a block header is bad"
    INVALID_DISTANCE = 67, "a distance reaches before the start of the data"
    INVALID_DHT = 68, "the dynamic Huffman table is invalid"
    HARDWARE = 224, "the engine stopped the job"
    TRANSLATION_FAULT = 250, "an address was not mapped; written by system software"


class CompletionExtension(IntFlag):
    """CE of the coprocessor status block, as its byte."""

    NONE = 0
    TPBC_VALID = 0x20
    TERMINATED = 0x40
    PARTIAL = 0x80


class FallbackReason(ExplainedName):
    """Why bytes were handled by software instead of an NX unit. A closed list: each has a counter."""

    MODE = "mode", "the caller asked for software"
    SMALL = "small", "below the size at which the accelerator pays"
    DELAY = "delay", "the accelerator took too long lately, on average; libnxz's rule"
    OPEN_REFUSED = "open_refused", "no window: the kernel refused to open one"
    WINDOW_SUSPENDED = "window_suspended", "the window lost its credit; its pastes fail until it comes back"
    PASTE_BUSY = "paste_busy", "pastes were refused until the deadline: no window credit or no FIFO slot"
    TIMEOUT = "timeout", "the NX unit did not answer in time"
    DATA = "data", "the NX unit could not process this data"
    SESSION_DEAD = "session_dead", "the session with the partition is over; the descriptors are gone"
    PAGE_FAULT = "page_fault", "pages of the request kept vanishing until the deadline"


class Operand(ExplainedName):
    """Which operand of a request has the page that was not there."""

    SOURCE = "source", "the history and source, read"
    TARGET = "target", "the target, written"
    CSB = "csb", "the coprocessor status block, written when the request is over"


class Signal(ExplainedCode):
    """Signals that the kernel sends a process; their default action ends it."""

    SIGBUS = 7, "something other than a paste touched a page with nothing behind it"
    SIGSEGV = 11, "the status block of a request could not be written"


class Instruction(ExplainedName):
    """What touched the mapping when it faulted."""

    PASTE = "paste", "the paste instruction"
    LOAD = "load", "an ordinary load"


class ExitCode(ExplainedCode):
    """Exit codes of the `vasbus` command and of every server process."""

    OK = 0, "done; for a server: stopped when asked to"
    FAILED = 1, "the operation was refused or a check failed; the reason is printed"
    USAGE = 2, "the command line is wrong"
    SETTINGS = 3, "the system file is wrong; file, line and key are printed"
    UNREACHABLE = 4, "nobody answered at that endpoint before the deadline"
    STORE = 6, "the ledger could not be read or written; what was not stored was not answered"
    ADDRESS_IN_USE = 7, "a socket could not be bound"
    REFUSED = 8, "the peer refused this process for good"
    STORE_FULL = 10, "no room for the ledger: make some and start again; what was not stored was not answered"
    STORE_READ_ONLY = 11, "the ledger or its folder cannot be written by this user or on this file system"
    STORE_VERSION = 12, "another release wrote the ledger: use that one, or another ledger"
    STORE_DAMAGED = 13, "the ledger is damaged, or has a row that makes no sense"
    STORE_FOREIGN = 14, "what is there is no ledger: no database, another program's, or no file"
    STORE_LOCKED = 15, "another process has the ledger"
    INSECURE = 20, "a socket was to listen for other machines without keys, or for other users"
    KEYS = 21, "a key file cannot be read or is wrong, or has not the key that is needed"
    MEMORY = 22, "the process met its ceiling of memory: start it again; what was not stored was not answered"
    STOPPED_AT_ONCE = 30, "stopped at the second signal: what was under way is unfinished, its leases run out"
    UNFINISHED = 31, "asked to stop, and not all was wound up by the deadline: what is left goes with its lease"
    INTERRUPTED = 32, "asked to stop before all was running; `vasbus up` has stopped what it had started"
    KILLED = 33, "`vasbus down` had to kill what did not stop in time; nothing is left running"


CODE_TABLES: tuple[type[Enum], ...] = (
    HcallCode, Hcall, VasiState, CreditType, VasQuery, NxQuery, WindowStatus, KernelReason, FaultOutcome, FunctionCode,
    CompletionCode, FallbackReason, Operand, Signal, Instruction, ExitCode,
)  # fmt: skip
"""What the documentation prints, in order."""
