"""A fake NX unit: its contexts are a dict, and it can be silent, full, draining, cut off or forgetful."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol.clock import MILLISECOND_US, earliest
from protocol.codes import Operand
from protocol.fabric_messages import (
    CloseContext,
    ContextClosed,
    ContextDraining,
    ContextProgrammed,
    Contexts,
    ContextSummary,
    CreditReturned,
    FaultNoted,
    FaultRaised,
    ListContexts,
    ProgramContext,
    ReturnCredit,
    UnitReady,
)
from protocol.hcall_messages import (
    WindowAllocated,
)
from protocol.link import FABRIC
from protocol.message import Reply, Request
from protocol.refusals import RefusalCode
from protocol.session import Answered, Called, Established, Event
from protocol.session_messages import Refused
from protocol.wire import Envelope
from tests.hypervisor.end import End

if TYPE_CHECKING:
    from tests.hypervisor.cluster import Cluster


@dataclass(slots=True)
class Held:
    """A context of a fake unit; `in_flight` requests and `faults`, by the paste's number, keep it from closing."""

    token: bytes
    process_id: int
    in_flight: int = 0
    closers: list[int] = field(default_factory=list)
    faults: dict[int, FaultRaised] = field(default_factory=dict)
    last_number: int = 0

    @property
    def requests(self) -> int:
        return self.in_flight + len(self.faults)

    @property
    def busy(self) -> bool:
        return self.requests > 0


OF_AN_EARLIER_SESSION = 0
"""The number of a CloseContext whose session is over: its context goes on draining, and nobody waits for the answer."""


class FakeUnit(End):
    """An NX unit whose contexts are a dict. `mute`: it beats but answers no request of the hypervisor.

    `page`: contexts in one answer; `endless`: it always says that there are more. `guard`: the same for each process
    of the name, as if each found the lock of the one before it free. `twists` makes of an answer what is said instead.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster, FABRIC, "nxunit", name, cluster.system.times.fence_ms, by_beats=True)
        self.contexts: dict[int, Held] = {}
        self.limit = 1000
        self.guard = name.encode()
        self.page = 4096
        self.endless = False
        self.mute = False
        self.twists: Callable[[Reply], Reply | Refused] = lambda reply: reply
        self.asked: list[Request] = []
        self.noted: set[tuple[int, int]] = set()
        """The faults, by window and number, that the hypervisor has ever said it noted."""
        self._unanswered: list[Called] = []
        self._anchor_us: int | None = None

    def start(self) -> None:
        """A new process knows no contexts."""
        super().start()
        self.contexts, self._unanswered, self._anchor_us = {}, [], None

    def takes_paste(self, window: WindowAllocated) -> bool:
        """Whether a paste at the window's address would be accepted."""
        address = window.paste_address
        assert address is not None
        held = self.contexts.get(address.window_id)
        return self.running and held is not None and held.token == address.token and not held.closers

    def session_ended(self, refusal: Refused) -> None:
        if refusal.code is RefusalCode.SESSION_DEAD:
            self._unanswered = []
            for held in self.contexts.values():
                held.closers = [OF_AN_EARLIER_SESSION] * len(held.closers)
            self.dialer.start_over(self.cluster.entropy(16), self.cluster.now_us)

    def handle(self, event: Event) -> None:
        super().handle(event)
        if isinstance(event, Established):
            limits = UnitReady(window_limit=self.limit, fifo_depth=8, request_limit_bytes=1 << 20, guard=self.guard)
            self.send(limits)
            for fault in [] if event.resumed else self.faults:
                self.send(fault)
        elif isinstance(event, Answered) and isinstance(event.request, FaultRaised):
            if isinstance(event.reply, FaultNoted):
                self.noted.add((event.request.window_id, event.request.number))
        elif isinstance(event, Called):
            self.asked.append(event.body)
            self._unanswered.append(event)
            self.speak()

    def speak(self) -> None:
        """Answer what waits, unless the unit is mute."""
        while self._unanswered and not self.mute:
            self._answer(self._unanswered.pop(0))

    def _answer(self, call: Called) -> None:
        match call.body:
            case ListContexts(above=above):
                known = [
                    ContextSummary(window_id=window_id, token=held.token, process_id=held.process_id)
                    for window_id, held in sorted(self.contexts.items())
                    if window_id > above
                ]
                more = self.endless or len(known) > self.page
                self._reply(call.number, Contexts(contexts=tuple(known[: self.page]), more=more))
            case ProgramContext() as wanted:
                accepted = self._program(wanted)
                held = self.contexts.get(wanted.window_id)
                in_flight = 0 if held is None else held.requests
                answer = ContextProgrammed(window_id=wanted.window_id, accepted=accepted, in_flight=in_flight)
                self._reply(call.number, answer)
            case CloseContext(window_id=window_id):
                self._close(window_id, call.number)
            case ReturnCredit(window_id=window_id, number=number):
                self._return_credit(window_id, number)
                self._reply(call.number, CreditReturned(window_id=window_id, number=number))

    def _program(self, wanted: ProgramContext) -> bool:
        held = self.contexts.get(wanted.window_id)
        if held is None:
            if len(self.contexts) >= self.limit:
                return False
            self.contexts[wanted.window_id] = Held(wanted.token, wanted.process_id)
            return True
        if held.closers or (held.busy and held.process_id != wanted.process_id):
            return False
        held.token, held.process_id = wanted.token, wanted.process_id
        return True

    def _close(self, window_id: int, number: int) -> None:
        held = self.contexts.get(window_id)
        if held is None:
            self._reply(number, ContextClosed(window_id=window_id, bytes_processed=0))
            return
        held.closers.append(number)
        if held.busy:
            notice = ContextDraining(window_id=window_id, in_flight=held.requests)
            self.dialer.send(self.dialer.session, notice)
        else:
            self._gone(window_id)

    def complete(self, window_id: int) -> None:
        """The last request of the window is done."""
        held = self.contexts[window_id]
        held.in_flight = 0
        if held.closers and not held.busy:
            self._gone(window_id)

    # Translation faults.

    @property
    def faults(self) -> list[FaultRaised]:
        """Those whose window credit is still taken."""
        return [fault for held in self.contexts.values() for fault in held.faults.values()]

    def fault(self, window_id: int, number: int | None = None) -> int:
        """A paste of the window stops at an absent page of its source. Returns the paste's number."""
        held = self.contexts[window_id]
        held.last_number = held.last_number + 1 if number is None else number
        fault = fault_of(window_id, held.last_number, held.token)
        held.faults[fault.number] = fault
        if self.epoch:
            self.send(fault)
        return fault.number

    def _return_credit(self, window_id: int, number: int) -> None:
        held = self.contexts.get(window_id)
        if held is not None and held.faults.pop(number, None) is not None and held.closers and not held.busy:
            self._gone(window_id)

    def _gone(self, window_id: int) -> None:
        for number in self.contexts.pop(window_id).closers:
            if number != OF_AN_EARLIER_SESSION:
                self._reply(number, ContextClosed(window_id=window_id, bytes_processed=0))

    def _reply(self, number: int, reply: Reply) -> None:
        self.dialer.answer(self.dialer.session, number, self.twists(reply))

    # The fence: certainly quiet when the latest echoed beat was sent `fence_ms` ago.

    def receive(self, envelope: Envelope) -> None:
        super().receive(envelope)
        if self.dialer.lease_anchor_us is not None:
            self._anchor_us = self.dialer.lease_anchor_us

    @property
    def _fence_us(self) -> int | None:
        if not self.contexts or self._anchor_us is None:
            return None
        return self._anchor_us + self.cluster.system.times.fence_ms * MILLISECOND_US

    def tick(self) -> None:
        fence_us = self._fence_us
        if fence_us is not None and self.cluster.now_us >= fence_us:
            self.contexts, self._unanswered = {}, []
            self.dialer.start_over(self.cluster.entropy(16), self.cluster.now_us)
        super().tick()

    def wake_us(self) -> int | None:
        return earliest(super().wake_us(), self._fence_us)


def fault_of(window_id: int, number: int, token: bytes = bytes(16)) -> FaultRaised:
    """A fault whose addresses follow from the paste's number."""
    return FaultRaised(
        window_id=window_id,
        token=token,
        number=number,
        function=0x02,
        operand=Operand.SOURCE,
        fault_address=number << 16 & (1 << 64) - 1,
        csb_address=number << 11 & (1 << 64) - 1,
    )
