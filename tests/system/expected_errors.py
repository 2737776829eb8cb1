"""How a call may fail among deaths and changes, and no other way."""

from __future__ import annotations

from lpar.client import PasteRefused
from lpar.client.errors import KernelFailure
from protocol.codes import HcallCode, KernelReason

REFUSALS = {
    KernelReason.NO_CREDIT: "the partition's credits of the type are all in use",
    KernelReason.CLOSED_WINDOWS: "windows that lost their credit come first",
    KernelReason.INACTIVE: "the window lost its credit before it was mapped",
    KernelReason.MIGRATION: "the partition is migrating",
    KernelReason.DEAD: "the partition was killed",
    KernelReason.HCALL_BUSY: "the hypervisor or a unit was away for longer than the kernel waits",
}
HCALLS = {
    HcallCode.H_RESOURCE: "the kernel has not heard yet that credits were taken, or a dead one's are not back",
    HcallCode.H_CONSTRAINED: "no unit was there",
}
"""The hypervisor's refusals behind an EIO."""


def is_expected(error: Exception) -> bool:
    """Whether deaths or changes explain it. A paste may be refused, or unanswered, for longer than its caller waits."""
    if isinstance(error, KernelFailure):
        return error.hcall in HCALLS if error.reason is KernelReason.HCALL_FAILED else error.reason in REFUSALS
    return isinstance(error, PasteRefused | TimeoutError)
