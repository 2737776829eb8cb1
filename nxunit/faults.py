"""Translation faults that a unit holds until their window credit is returned, and telling the hypervisor of them. Pure.

A fault is told once per session and again in each new one. At most TELLING_LIMIT are being told at a time, so that the
session has room for its other requests. A window has at most one more fault than it has window credits (a repeat runs
without a credit, but its fault takes one), so the contexts bound the table.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nxunit.context import Context
from protocol.dialer import Dialer
from protocol.fabric_messages import FaultRaised
from protocol.session import Session

TELLING_LIMIT = 32

FaultKey = tuple[int, int]
"""Window id and the paste's number."""


@dataclass(slots=True, eq=False)
class HeldFault:
    """One fault. `call_number` is that of the FaultRaised under way.

    `returns` are the ReturnCredit requests that wait for its answer: were the fault over before, a repeated
    FaultRaised could reach the hypervisor after CreditReturned and bring a fault up again that nobody holds.
    """

    context: Context
    raised: FaultRaised
    resume: bytes
    call_number: int | None = None
    returns: list[tuple[Session, int]] = field(default_factory=list)

    @property
    def key(self) -> FaultKey:
        return self.raised.window_id, self.raised.number


class HeldFaults:
    """The faults of a unit in the order in which they happened."""

    def __init__(self, dialer: Dialer) -> None:
        self.dialer = dialer
        self._held: dict[FaultKey, HeldFault] = {}
        self._untold: dict[FaultKey, HeldFault] = {}
        self._calls: dict[int, HeldFault] = {}

    def __len__(self) -> int:
        return len(self._held)

    def find(self, window_id: int, number: int) -> HeldFault | None:
        return self._held.get((window_id, number))

    def hold(self, fault: HeldFault, now_us: int) -> None:
        """Keep a new fault and tell the hypervisor, at once or as soon as there is a session."""
        self._held[fault.key] = self._untold[fault.key] = fault
        self.tell(now_us)

    def tell(self, now_us: int) -> None:
        """Put what is untold into the session. One that is only being dialled is left alone: it will be new."""
        session = self.dialer.session
        while self._untold and len(self._calls) < TELLING_LIMIT and session.epoch:
            fault = self._untold.pop(next(iter(self._untold)))
            fault.call_number = self.dialer.call(session, fault.raised, now_us)
            self._calls[fault.call_number] = fault

    def answered(self, call_number: int, now_us: int) -> HeldFault | None:
        """The hypervisor has answered a FaultRaised of this session; None: the request was not one."""
        fault = self._calls.pop(call_number, None)
        if fault is not None:
            fault.call_number = None
            self.tell(now_us)
        return fault

    def tell_again(self, raised: FaultRaised, now_us: int) -> None:
        """What came was no word that the fault was noted; one that is over, or is being told, is left alone."""
        fault = self.find(raised.window_id, raised.number)
        if fault is not None and fault.call_number is None:
            self._untold[fault.key] = fault
            self.tell(now_us)

    def session_over(self) -> None:
        """Everything is to be told anew in the next session; what the old one asked for, that one asks again."""
        self._calls.clear()
        self._untold = dict(self._held)
        for fault in self._held.values():
            fault.call_number = None
            fault.returns.clear()

    def drop(self, fault: HeldFault) -> None:
        """The fault is over."""
        del self._held[fault.key]
        self._untold.pop(fault.key, None)

    def clear(self) -> int:
        """Drop them all; returns how many there were."""
        dropped = len(self._held)
        self._held.clear()
        self._untold.clear()
        self._calls.clear()
        return dropped
