"""Calling the hypervisor: one numbered request per hcall, and the driver's busy loop around it. Source: domain.md 1.

H_BUSY: the kernel yields and calls again; here other work gets a millisecond. Long busy: it sleeps for the hint, but
at least 1 ms and at most 10 ms, because longer sleeps under the mutex starved thousands of openers. Every call is a
new request with a number of its own: a repeat of an answered number would only bring the old answer back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lpar.alarms import Alarm, Alarms
from lpar.statistics import Tally
from protocol.clock import MILLISECOND_US
from protocol.codes import BUSY_HINT_MS, CreditType, Hcall, HcallCode, VasQuery
from protocol.dialer import Dialer
from protocol.exchange import BacklogFull
from protocol.hcall_messages import (
    Associativity,
    HAllocateVasWindow,
    HcallStatus,
    HDeallocateVasWindow,
    HGetNxFault,
    HHomeNodeAssociativity,
    HModifyVasWindow,
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    HSetPpp,
    NxFault,
    NxFeatureCapabilities,
    NxOverallCapabilities,
    VasFeatureCapabilities,
    VasOverallCapabilities,
    WindowAllocated,
)
from protocol.message import Reply, Request
from protocol.mobility_messages import HJoin, HVasiSignal, HVasiState, VasiStateTold
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused

BUSY_WAIT_LEAST_MS = 1
BUSY_WAIT_MOST_MS = 10

HcallReply = (
    Associativity
    | WindowAllocated
    | HcallStatus
    | VasOverallCapabilities
    | VasFeatureCapabilities
    | NxOverallCapabilities
    | NxFeatureCapabilities
    | NxFault
    | VasiStateTold
)

BUSY_LOOPED = (HAllocateVasWindow, HModifyVasWindow, HDeallocateVasWindow)
"""The hcalls that the driver wraps in its busy loop; the others never return busy or, H_SET_PPP, are not repeated."""

REPLIES: dict[type[Request], tuple[Hcall, tuple[type[Reply], ...]]] = {
    HHomeNodeAssociativity: (Hcall.H_HOME_NODE_ASSOCIATIVITY, (Associativity,)),
    HAllocateVasWindow: (Hcall.H_ALLOCATE_VAS_WINDOW, (WindowAllocated,)),
    HModifyVasWindow: (Hcall.H_MODIFY_VAS_WINDOW, (HcallStatus,)),
    HDeallocateVasWindow: (Hcall.H_DEALLOCATE_VAS_WINDOW, (HcallStatus,)),
    HQueryVasCapabilities: (Hcall.H_QUERY_VAS_CAPABILITIES, (VasOverallCapabilities, VasFeatureCapabilities)),
    HQueryNxCapabilities: (Hcall.H_QUERY_NX_CAPABILITIES, (NxOverallCapabilities, NxFeatureCapabilities)),
    HGetNxFault: (Hcall.H_GET_NX_FAULT, (NxFault,)),
    HVasiState: (Hcall.H_VASI_STATE, (VasiStateTold,)),
    HVasiSignal: (Hcall.H_VASI_SIGNAL, (HcallStatus,)),
    HJoin: (Hcall.H_JOIN, (HcallStatus,)),
    HSetPpp: (Hcall.H_SET_PPP, (HcallStatus,)),
}
"""The hcall that a request is, and what may answer it."""


TOLD_BY_QUERY: dict[int, CreditType] = {VasQuery.GZIP_QOS: CreditType.QOS, VasQuery.GZIP_DEFAULT: CreditType.DEFAULT}
"""The window type whose credits a capability query tells; that for the overall capabilities tells of none."""


@dataclass(frozen=True, slots=True)
class HcallReturn:
    """How an hcall ended. `code` is None where the answer was no return of that hcall; `reply` then is None too."""

    hcall: Hcall
    code: HcallCode | None
    reply: HcallReply | None
    refusal: str = ""

    @property
    def succeeded(self) -> bool:
        return self.code is HcallCode.H_SUCCESS

    @property
    def words(self) -> str:
        """The outcome for a log line or an error text."""
        return f"{self.hcall.name}: {self.refusal if self.code is None else self.code.name}"


class HcallWaiter(Protocol):
    """An operation that waits for an hcall."""

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        """The hcall is over. A busy code comes only after `give_up`, from a query, or where it was to be heard."""


@dataclass(slots=True, eq=False)
class HcallInFlight:
    """An hcall that has not ended: on the wire since `issued_us`, or between two rounds of the busy loop (`alarm`)."""

    request: Request
    waiter: HcallWaiter
    issued_us: int = 0
    alarm: Alarm | None = None
    given_up: bool = False
    heard: tuple[HcallCode, ...] = ()


class Hypercalls:
    """The partition's hcalls in flight on its session with the hypervisor."""

    def __init__(self, dialer: Dialer, alarms: Alarms, tally: Tally) -> None:
        self.dialer = dialer
        self.alarms = alarms
        self.tally = tally
        self.holds: Callable[[int], bool] = lambda _window_id: False
        """Whether the hypervisor has granted a window of this id that is not given back; ids come once only."""
        self._on_wire: dict[int, HcallInFlight] = {}

    @property
    def epoch(self) -> int:
        """The epoch of the session with the hypervisor; 0 before the first."""
        return self.dialer.session.epoch

    def issue(
        self, request: Request, waiter: HcallWaiter, now_us: int, heard: tuple[HcallCode, ...] = ()
    ) -> HcallInFlight:
        """Make an hcall; `waiter.returned` is called later, never from here. Busy codes in `heard` end it too."""
        call = HcallInFlight(request, waiter, heard=heard)
        self._put_on_wire(call, now_us)
        return call

    def give_up(self, call: HcallInFlight) -> bool:
        """Leave the busy loop. True: the hcall is not on the wire and nothing will come of it.

        False: its return is still to come, whatever it is, because it may have taken effect.
        """
        call.given_up = True
        if call.alarm is None:
            return False
        self.alarms.cancel(call.alarm)
        return True

    def answered(self, number: int, reply: Reply | Refused, now_us: int) -> None:
        """The answer to a request came."""
        call = self._on_wire.pop(number, None)
        if call is None:
            return
        answer = self._read(call.request, reply)
        if answer.code is not None:
            self.tally.hcall_returned(answer.hcall, answer.code, now_us - call.issued_us)
        loops = isinstance(call.request, BUSY_LOOPED) and not call.given_up and answer.code not in call.heard
        if answer.code is not None and answer.code.is_busy and loops:
            hint_ms = BUSY_HINT_MS[answer.code]
            self._again_later(call, max(BUSY_WAIT_LEAST_MS, min(hint_ms, BUSY_WAIT_MOST_MS)), now_us)
        else:
            call.waiter.returned(answer, now_us)

    def _put_on_wire(self, call: HcallInFlight, now_us: int) -> None:
        call.alarm, call.issued_us = None, now_us
        try:
            number = self.dialer.call(self.dialer.session, call.request, now_us)
        except BacklogFull:
            self._again_later(call, BUSY_WAIT_MOST_MS, now_us)
        else:
            self._on_wire[number] = call

    def _again_later(self, call: HcallInFlight, wait_ms: int, now_us: int) -> None:
        def again(moment_us: int) -> None:
            self._put_on_wire(call, moment_us)

        call.alarm = self.alarms.set(now_us + wait_ms * MILLISECOND_US, again)

    def _read(self, request: Request, reply: Reply | Refused) -> HcallReturn:
        """Check that an answer is one that this hcall can have: what came from outside is not trusted."""
        hcall, expected = REPLIES[type(request)]
        if isinstance(reply, Refused):
            return HcallReturn(hcall, None, None, f"{reply.code}: expected {reply.expected}, came {reply.came}")
        if not isinstance(reply, expected) or not isinstance(reply, HcallReply):
            return HcallReturn(hcall, None, None, f"{RefusalCode.UNKNOWN_TYPE}: answered by {reply.type}")
        why = self._contradiction(request, reply)
        if why:
            return HcallReturn(hcall, None, None, why)
        return HcallReturn(hcall, reply.code, reply)

    def _contradiction(self, request: Request, reply: HcallReply) -> str:
        """Why a success cannot be one of this call; empty where it can."""
        if reply.code is not HcallCode.H_SUCCESS:
            return ""
        if isinstance(reply, WindowAllocated):
            address = reply.paste_address
            if self.holds(reply.window_id):
                return f"window {reply.window_id} once more, which the partition holds"
            if address is not None and address.window_id != reply.window_id:
                return f"window {reply.window_id} with the paste address of window {address.window_id}"
        elif isinstance(request, HQueryVasCapabilities):
            told = TOLD_BY_QUERY.get(request.query_type)
            if told != (reply.window_type if isinstance(reply, VasFeatureCapabilities) else None):
                return f"query {request.query_type} answered by {reply.type} of another one"
        return ""
