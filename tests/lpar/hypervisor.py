"""A scripted hypervisor for the tests: the listening end of the hcall link and a plain table of windows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from protocol.codes import (
    NX_FEATURE_GZIP,
    VAS_FEATURE_DEFAULT,
    VAS_FEATURE_QOS,
    CreditType,
    HcallCode,
    NxQuery,
    VasQuery,
)
from protocol.effects import Effects, Peer
from protocol.hcall_messages import (
    Associativity,
    Configuration,
    ConfigurationChange,
    ConfigurationKind,
    FaultInterrupt,
    HAllocateVasWindow,
    HcallStatus,
    HDeallocateVasWindow,
    HGetNxFault,
    HHomeNodeAssociativity,
    HModifyVasWindow,
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    Noted,
    NxFault,
    NxFeatureCapabilities,
    NxOverallCapabilities,
    QueryConfiguration,
    Reconfigured,
    VasFeatureCapabilities,
    VasOverallCapabilities,
    WindowAllocated,
)
from protocol.listener import Listener
from protocol.message import Message, PasteAddress, Reply, Request
from protocol.paste_messages import CSB_ADDRESS, PAGE_BYTES, SOURCE_ADDRESS
from protocol.refusals import RefusalCode
from protocol.session import Called, Event, Session
from protocol.system import Times
from protocol.wire import Envelope, refuse

INTERRUPT_BASE = 5_000
WINDOW_CALLS = (HAllocateVasWindow, HModifyVasWindow, HDeallocateVasWindow)


class Silence(Enum):
    """A scripted return: no answer until `release`."""

    HOLD = auto()


Scripted = HcallCode | Silence | Reply


def paste_address(window_id: int) -> PasteAddress:
    """The address of a window: recognisable in assertions."""
    token = window_id.to_bytes(16, "big")
    return PasteAddress(address=window_id << 16, unit="nx0", endpoints={}, window_id=window_id, token=token)


@dataclass(slots=True)
class FakeHypervisor:
    """Grants windows up to `targets` where `enforces`, unless the script of an hcall says otherwise."""

    targets: dict[CreditType, int]
    features: int = VAS_FEATURE_DEFAULT | VAS_FEATURE_QOS
    nx_features: int = NX_FEATURE_GZIP
    user_mode: int = 0x01
    enforces: bool = False
    generation: int = 0
    told_generation: int | None = None
    windows: dict[int, CreditType] = field(default_factory=dict)
    made: list[Request] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    made_at_us: list[int] = field(default_factory=list)
    reports: list[Reconfigured] = field(default_factory=list)
    asked: list[QueryConfiguration] = field(default_factory=list)
    script: dict[type[Request], deque[Scripted | None]] = field(default_factory=dict)
    always: dict[type[Request], Scripted] = field(default_factory=dict)
    held: list[tuple[Session, int, Request]] = field(default_factory=list)
    pending: ConfigurationChange | None = None
    hundredths: int | None = None
    silent: bool = False
    """Whether questions for the configuration wait for `speak`."""
    unanswered: list[Called] = field(default_factory=list)
    tells: deque[Message] = field(default_factory=deque)
    """What is said to the next questions for the configuration."""
    notes: deque[Message] = field(default_factory=deque)
    """What is said to the next reports."""
    without_address: bool = False
    faults: dict[int, deque[NxFault]] = field(default_factory=dict)
    fetched: list[tuple[int, int]] = field(default_factory=list)
    """Window and paste number of each fault that was fetched, in order."""
    effects: Effects = field(default_factory=Effects)
    refuses: RefusalCode | None = None
    next_window: int = 1
    listener: Listener = field(init=False)

    def __post_init__(self) -> None:
        times = Times()
        self.listener = Listener(
            "hcall",
            times.terms(times.lpar_lease_ms, by_beats=True),
            self.effects,
            lambda count: b"s" * count,
            admit=lambda _hello: None if self.refuses is None else refuse(self.refuses, "nobody", "somebody"),
            generation=lambda _session: self.generation,
        )

    def returns(self, request: type[Request], *scripted: Scripted | None) -> None:
        """Queue returns of an hcall, None where it works; when they are used up it works again."""
        self.script.setdefault(request, deque()).extend(scripted)

    def fails_at(self, request: type[Request], position: int, code: HcallCode) -> None:
        """Let the hcall fail once, `position` calls from now."""
        self.script[request] = deque([*[None] * position, code])

    def announce(self, kind: ConfigurationKind, amount: int, *, notify: bool = True) -> None:
        """Queue the next change; without `notify` only beats carry its generation."""
        assert self.pending is None, "one change at a time"
        self.generation += 1
        self.pending = ConfigurationChange(generation=self.generation, kind=kind, amount=amount)
        if notify:
            for session in self.listener.sessions.values():
                self.listener.notify(session, self.pending)

    def raise_fault(
        self, window_id: int, number: int, *, csb_address: int = CSB_ADDRESS, page: int = 0, notify: bool = True
    ) -> None:
        """A request of the window met an absent page; without `notify` the interrupt is lost."""
        assert window_id in self.windows, "only a window of the hypervisor has requests"
        fault = NxFault(
            code=HcallCode.H_SUCCESS,
            window_id=window_id,
            number=number,
            function=0x02,
            fault_address=SOURCE_ADDRESS + page * PAGE_BYTES,
            csb_address=csb_address,
        )
        self.faults.setdefault(window_id, deque()).append(fault)
        if notify:
            self.interrupt(window_id, number)

    def interrupt(self, window_id: int, number: int) -> None:
        """Tell the partition, or tell it again."""
        for session in self.listener.sessions.values():
            notice = FaultInterrupt(window_id=window_id, interrupt=INTERRUPT_BASE + window_id, number=number)
            self.listener.notify(session, notice)

    def receive(self, peer: Peer, envelope: Envelope, now_us: int) -> None:
        self.take(self.listener.receive(peer, envelope, now_us), now_us)

    def take(self, events: list[Event], now_us: int) -> None:
        for event in events:
            if isinstance(event, Called):
                self.called(event, now_us)

    def called(self, event: Called, now_us: int) -> None:
        body = event.body
        if isinstance(body, QueryConfiguration):
            self.asked.append(body)
            self.unanswered.append(event)
            if not self.silent:
                self.speak()
            return
        if isinstance(body, Reconfigured):
            self.reports.append(body)
            noted = self.notes.popleft() if self.notes else Noted()
            self.pending = None if isinstance(noted, Noted) else self.pending
            self.listener.answer(event.session, event.number, noted)
            return
        self.made.append(body)
        self.numbers.append(event.number)
        self.made_at_us.append(now_us)
        queued = self.script.get(type(body))
        scripted = queued.popleft() if queued else self.always.get(type(body))
        if scripted is Silence.HOLD:
            self.held.append((event.session, event.number, body))
        else:
            self.listener.answer(event.session, event.number, self._reply(body, scripted))

    def speak(self) -> None:
        """Answer the questions for the configuration."""
        self.silent = False
        while self.unanswered:
            event = self.unanswered.pop(0)
            told = self.generation if self.told_generation is None else self.told_generation
            truth = Configuration(generation=told, hundredths=self.hundredths, change=self.pending)
            answer = self.tells.popleft() if self.tells else truth
            self.listener.answer(event.session, event.number, answer)

    def release(self, code: HcallCode | None = None) -> None:
        """Answer everything held: with this code, or as the table says."""
        for _ in range(len(self.held)):
            self.release_oldest(code)

    def release_oldest(self, code: HcallCode | None = None) -> None:
        """Answer what has been held longest."""
        session, number, body = self.held.pop(0)
        self.listener.answer(session, number, self._reply(body, code))

    def _reply(self, body: Request, scripted: Scripted | None) -> Reply:
        if isinstance(scripted, Reply):
            return scripted
        code = scripted if isinstance(scripted, HcallCode) else None
        if code is None:
            return self._carry_out(body)
        failures: dict[type[Request], Callable[[], Reply]] = {
            HAllocateVasWindow: lambda: WindowAllocated(code=code),
            HHomeNodeAssociativity: lambda: Associativity(code=code),
            HQueryVasCapabilities: lambda: VasOverallCapabilities(code=code),
            HQueryNxCapabilities: lambda: NxOverallCapabilities(code=code),
            HGetNxFault: lambda: NxFault(code=code),
        }
        return failures.get(type(body), lambda: HcallStatus(code=code))()

    def _carry_out(self, body: Request) -> Reply:
        good = HcallCode.H_SUCCESS
        if isinstance(body, HAllocateVasWindow):
            return self._allocate(CreditType(body.window_type))
        if isinstance(body, HDeallocateVasWindow):
            if self.faults.get(body.window_id):
                return HcallStatus(code=HcallCode.H_LONG_BUSY_ORDER_1_MSEC)
            known = self.windows.pop(body.window_id, None)
            return HcallStatus(code=good if known is not None else HcallCode.H_PARAMETER)
        if isinstance(body, HGetNxFault):
            return self._get_nx_fault(body)
        if isinstance(body, HHomeNodeAssociativity):
            return Associativity(code=good, domain=(7, body.processor_id, 0, 0, 0, 0))
        if isinstance(body, HQueryVasCapabilities):
            return self._vas(VasQuery(body.query_type))
        if isinstance(body, HQueryNxCapabilities):
            if body.query_type == NxQuery.OVERALL:
                return NxOverallCapabilities(code=good, feature_types=self.nx_features)
            return NxFeatureCapabilities(
                code=good, req_max_processed_len=1048576, min_compress_len=32768, min_decompress_len=32768
            )
        return HcallStatus(code=good)

    def _get_nx_fault(self, body: HGetNxFault) -> Reply:
        if body.window_id not in self.windows:
            return NxFault(code=HcallCode.H_PARAMETER)
        if body.buffer_address % 128:
            return NxFault(code=HcallCode.H_PRIVILEGE)
        waiting = self.faults.get(body.window_id)
        if not waiting:
            return NxFault(code=HcallCode.H_STATE)
        fault = waiting.popleft()
        self.fetched.append((fault.window_id, fault.number))
        return fault

    def _allocate(self, credit_type: CreditType) -> Reply:
        in_use = sum(kind is credit_type for kind in self.windows.values())
        if self.enforces and in_use >= self.targets[credit_type]:
            return WindowAllocated(code=HcallCode.H_RESOURCE)
        window_id, self.next_window = self.next_window, self.next_window + 1
        self.windows[window_id] = credit_type
        address = None if self.without_address else paste_address(window_id)
        return WindowAllocated(
            code=HcallCode.H_SUCCESS,
            window_id=window_id,
            paste_address=address,
            completion_interrupt=window_id,
            fault_interrupt=INTERRUPT_BASE + window_id,
        )

    def _vas(self, query: VasQuery) -> Reply:
        if query is VasQuery.OVERALL:
            return VasOverallCapabilities(code=HcallCode.H_SUCCESS, feature_types=self.features)
        credit_type = CreditType.QOS if query is VasQuery.GZIP_QOS else CreditType.DEFAULT
        return VasFeatureCapabilities(
            code=HcallCode.H_SUCCESS,
            window_type=credit_type,
            user_mode=self.user_mode,
            max_lpar_credits=0xFFFF,
            max_window_credits=1,
            target_lpar_credits=self.targets[credit_type],
        )
