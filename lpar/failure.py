"""How a system call fails: the errno that belongs to the reason, and the hcall's code where one was the cause."""

from __future__ import annotations

from protocol.codes import REASON_ERRNO, HcallCode, KernelReason
from protocol.device_messages import OsFailure

DETAIL_LIMIT = 500
"""Characters of an explanation that may quote what came from outside."""


def os_failure(reason: KernelReason, detail: str = "", hcall: HcallCode | None = None) -> OsFailure:
    """The answer to a call that failed for this reason."""
    return OsFailure(errno=REASON_ERRNO[reason], reason=reason, hcall=hcall, detail=detail[:DETAIL_LIMIT])
