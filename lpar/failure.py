"""How a system call fails: the errno that belongs to the reason, and the hcall's code where one was the cause."""

from __future__ import annotations

from protocol.codes import REASON_ERRNO, HcallCode, KernelReason
from protocol.device_messages import OsFailure

DETAIL_LIMIT = 500
"""Characters of an explanation that may quote what came from outside."""


def os_failure(reason: KernelReason, detail: str = "", hcall: HcallCode | None = None) -> OsFailure:
    """The answer to a call that failed for this reason."""
    return OsFailure(errno=REASON_ERRNO[reason], reason=reason, hcall=hcall, detail=detail[:DETAIL_LIMIT])


def raw_failure(code: HcallCode, detail: str) -> OsFailure:
    """The answer where Linux passes an hcall's code on as if it were an errno: -55 becomes errno 55 (domain.md 3).

    A positive code would be taken for a result there; here it is EIO.
    """
    if code >= 0:
        return os_failure(KernelReason.HCALL_FAILED, detail, code)
    return OsFailure(errno=-int(code), reason=KernelReason.HCALL_RAW, hcall=code, detail=detail[:DETAIL_LIMIT])
