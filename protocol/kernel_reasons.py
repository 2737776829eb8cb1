"""Why system calls of a partition fail; known elsewhere by way of protocol.codes, beside the other tables."""

from __future__ import annotations

import errno

from protocol.explained import ExplainedName


class KernelReason(ExplainedName):
    """Why the kernel answered an errno: the errno alone is often ambiguous."""

    NO_CREDIT = "no_credit", "EINVAL: used + 1 would exceed the total credits of that type; no hcall was made"
    VERSION = "version", "EINVAL: the version of the open attributes is not 1"
    FLAGS = "flags", "EINVAL: a number is negative or wider than its field"
    WINDOW_EXISTS = "window_exists", "EEXIST: the descriptor already has a window"
    MIGRATION = "migration", "EBUSY: the partition is migrating"
    CLOSED_WINDOWS = "closed_windows", "EBUSY: windows that lost their credit have first claim on new ones"
    HCALL_FAILED = "hcall_failed", "EIO: the hypervisor answered with an error; the code is beside it"
    HCALL_BUSY = "hcall_busy", "EIO: the hypervisor stayed busy, or the driver's mutex taken, until the deadline"
    HCALL_RAW = "hcall_raw", "raw: the hypervisor's code came back with its own number in the place of an errno"
    SET_PPP_BUSY = "set_ppp_busy", "EBUSY: the hypervisor is at another change of this partition: write again later"
    SET_PPP_PARAMETER = "set_ppp_parameter", "EINVAL: the hypervisor does not give this partition such an entitlement"
    SET_PPP_RESOURCE = "set_ppp_resource", "EBUSY: more than the system has free; the code came back raw, as errno 16"
    NOT_SUPPORTED = "not_supported", "ENOTSUP: copy/paste is not offered to this partition"
    NO_WINDOW = "no_window", "EINVAL: the descriptor has no window"
    LENGTH = "length", "EINVAL: the mapping is longer than one page or not positive"
    OFFSET = "offset", "EINVAL: the offset of the mapping is not 0"
    INACTIVE = "inactive", "EACCES: the window is closed until its credit comes back"
    BAD_DESCRIPTOR = "bad_descriptor", "EBADF: no such descriptor or mapping in this process"
    LIMIT = "limit", "EMFILE: the process has reached its limit of descriptors or mappings"
    NO_FILE = "no_file", "ENOENT: no such file"
    NOT_READABLE = "not_readable", "EACCES: the file can only be written"
    NOT_ROOT = "not_root", "EACCES: only root may write the file; who comes with a client's key over tcp is not root"
    NOT_WRITABLE = "not_writable", "EACCES: the file can only be read"
    BAD_NUMBER = "bad_number", "EINVAL: not a number that the file takes"
    NUMBER_RANGE = "number_range", "ERANGE: the number has more bits than the file takes"
    NO_STREAM = "no_stream", "EINVAL: the hypervisor knows no such migration stream; the code is beside it"
    NOT_SUSPENDED = (
        "not_suspended",
        "EAGAIN: the hypervisor did not let the partition stand still; the code is beside it",
    )
    NOT_MOVED = "not_moved", "EIO: the migration stream is over, or its state could not be told"
    RECONFIGURE = "reconfigure", "EINVAL: the new total could not be applied"
    KILLED = "killed", "ESRCH: a signal ended this process; its descriptors are gone"
    NO_DEVICE = "no_device", "ENODEV: the partition has no accelerator device, or it is shutting down"
    DEAD = (
        "dead",
        "ENODEV: this process's session is over and the descriptor gone: the partition was restarted, or the process "
        "was out of its reach for longer than a lease",
    )


REASON_ERRNO: dict[KernelReason, int] = {
    reason: getattr(errno, reason.meaning.split(":")[0])
    for reason in KernelReason
    if reason is not KernelReason.HCALL_RAW
}
"""The errno that belongs to each reason: the meaning starts with its name. A raw code brings its own number."""
