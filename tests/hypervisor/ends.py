"""Fake neighbours of the hypervisor on the real session layer: partitions, NX units and consoles, all scriptable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol.clock import MILLISECOND_US, earliest
from protocol.codes import HYPERVISOR_CHOOSES, MODIFY_FLAGS, CreditType, HcallCode
from protocol.dialer import Dialer, Identity
from protocol.effects import Effects, Peer
from protocol.fabric_messages import (
    CloseContext,
    ContextClosed,
    ContextDraining,
    ContextProgrammed,
    Contexts,
    ContextSummary,
    ListContexts,
    ProgramContext,
    UnitReady,
)
from protocol.hcall_messages import (
    Configuration,
    ConfigurationChange,
    HAllocateVasWindow,
    HcallStatus,
    HDeallocateVasWindow,
    HModifyVasWindow,
    HQueryVasCapabilities,
    QueryConfiguration,
    Reconfigured,
    VasFeatureCapabilities,
    WindowAllocated,
)
from protocol.link import CONSOLE, FABRIC, HCALL, Link
from protocol.message import Message, Reply, Request
from protocol.refusals import RefusalCode
from protocol.session import Answered, Called, Ended, Established, Event, Noticed
from protocol.session_messages import BeatEcho, Refused
from protocol.wire import Envelope

if TYPE_CHECKING:
    from tests.hypervisor.cluster import Cluster


class End:
    """One process at the other end of a link. `cut`: nothing gets through in either direction, and nobody notices."""

    def __init__(self, cluster: Cluster, link: Link, role: str, name: str, lease_ms: int, *, by_beats: bool) -> None:
        self.cluster = cluster
        self.link = link
        self.role = role
        self.name = name
        self.terms = cluster.system.times.terms(lease_ms, by_beats=by_beats)
        self.answers: dict[int, Reply | Refused] = {}
        self.notices: list[Message] = []
        self.ended: Refused | None = None
        self.peer: Peer | None = None
        self.cut = False
        self.running = False
        self._dial()

    def _dial(self) -> None:
        self.effects = Effects()
        endpoints = {"local": f"ipc:///run/{self.name}.{self.role}"}
        who = Identity(self.role, self.name, self.cluster.entropy(16), "local", 4711, endpoints)
        self.dialer = Dialer(self.link.name, f"ipc:///run/{self.link.name}", who, self.terms, self.effects)

    def start(self) -> None:
        """Start the process: a new incarnation, with nothing remembered."""
        self._dial()
        self.answers, self.notices, self.ended = {}, [], None
        self.running = True
        self.dialer.open(self.cluster.now_us)

    def die(self) -> None:
        """kill -9: the connection goes with the process."""
        self.running = False
        self.peer = None

    @property
    def epoch(self) -> int:
        return self.dialer.session.epoch

    def receive(self, envelope: Envelope) -> None:
        for event in self.dialer.receive(envelope, self.cluster.now_us):
            self.handle(event)
        if isinstance(envelope.body, BeatEcho):
            self.heard(envelope.body.generation)

    def handle(self, event: Event) -> None:
        if isinstance(event, Answered):
            self.answers[event.number] = event.reply
        elif isinstance(event, Noticed):
            self.notices.append(event.body)
        elif isinstance(event, Ended):
            self.ended = event.refusal
            self.session_ended(event.refusal)

    def heard(self, generation: int) -> None:
        """A beat was echoed."""

    def session_ended(self, refusal: Refused) -> None:
        """The session is over for good."""

    def tick(self) -> None:
        self.dialer.tick(self.cluster.now_us)

    def wake_us(self) -> int | None:
        return self.dialer.wake_us()

    def send(self, body: Request) -> int:
        """Ask without waiting; the number under which the answer will be kept."""
        return self.dialer.call(self.dialer.session, body, self.cluster.now_us)

    def ask(self, body: Request) -> Reply | Refused:
        """Ask and wait for the answer."""
        number = self.send(body)
        self.cluster.wait(lambda: number in self.answers)
        return self.answers[number]


class FakeLpar(End):
    """A partition's kernel. `follows`: it asks for changes and reports them at once with `verdict`."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster, HCALL, "lpar", name, cluster.system.times.lpar_lease_ms, by_beats=True)
        self.follows = True
        self.verdict: Callable[[ConfigurationChange], Reconfigured] = accept
        self.applied: list[ConfigurationChange] = []
        self.generation = 0
        self._asked: int | None = None

    def start(self) -> None:
        super().start()
        self.generation, self._asked = 0, None

    def heard(self, generation: int) -> None:
        if self.follows and self._asked is None and generation > self.generation:
            self._asked = self.send(QueryConfiguration(generation=self.generation))

    def handle(self, event: Event) -> None:
        super().handle(event)
        if isinstance(event, Noticed) and isinstance(event.body, ConfigurationChange):
            self.heard(event.body.generation)
        elif isinstance(event, Answered) and event.number == self._asked:
            self._asked = None
            if isinstance(event.reply, Configuration):
                self._apply(event.reply)

    def _apply(self, configuration: Configuration) -> None:
        change = configuration.change
        if change is None:
            self.generation = max(self.generation, configuration.generation)
            return
        self.applied.append(change)
        self.generation = change.generation
        self.send(self.verdict(change))

    # The hcalls as the kernel's loops make them: again while the hypervisor is busy.

    def allocate(
        self, credit_type: int = CreditType.DEFAULT, chip: int = HYPERVISOR_CHOOSES, credits: int = 1
    ) -> WindowAllocated:
        reply = self.ask(HAllocateVasWindow(window_type=credit_type, credits=credits, domain=(chip, 0, 0, 0, 0, 0)))
        assert isinstance(reply, WindowAllocated)
        return reply

    def status_of(self, body: Request) -> HcallCode:
        reply = self.ask(body)
        assert isinstance(reply, HcallStatus)
        return reply.code

    def modify(self, window_id: int, process_id: int = 77) -> HcallCode:
        return self._until_done(modify(window_id, process_id))

    def deallocate(self, window_id: int) -> HcallCode:
        return self._until_done(HDeallocateVasWindow(window_id=window_id))

    def _until_done(self, body: Request) -> HcallCode:
        for _ in range(10_000):
            code = self.status_of(body)
            if not code.is_busy:
                return code
        raise AssertionError("the hypervisor stays busy")

    def open_window(self, credit_type: int = CreditType.DEFAULT, chip: int = HYPERVISOR_CHOOSES) -> WindowAllocated:
        """H_ALLOCATE and H_MODIFY, both of which must succeed."""
        window = self.allocate(credit_type, chip)
        assert window.code is HcallCode.H_SUCCESS, window
        assert self.modify(window.window_id) is HcallCode.H_SUCCESS
        return window

    def capabilities(self, query_type: int) -> VasFeatureCapabilities:
        reply = self.ask(HQueryVasCapabilities(query_type=query_type))
        assert isinstance(reply, VasFeatureCapabilities)
        return reply


def accept(change: ConfigurationChange) -> Reconfigured:
    return Reconfigured(generation=change.generation, accepted=True)


def refuse(change: ConfigurationChange) -> Reconfigured:
    return Reconfigured(generation=change.generation, accepted=False, error="rc 22")


def modify(window_id: int, process_id: int = 77) -> HModifyVasWindow:
    return HModifyVasWindow(window_id=window_id, process_id=process_id, flags=MODIFY_FLAGS)


@dataclass(slots=True)
class Held:
    """A context of a fake unit; `in_flight` requests keep it from closing."""

    token: bytes
    process_id: int
    in_flight: int = 0
    closers: list[int] = field(default_factory=list)


class FakeUnit(End):
    """An NX unit whose contexts are a dict. `mute`: it beats but answers no request of the hypervisor.

    `page`: contexts in one answer; `endless`: it always says that there are more.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster, FABRIC, "nxunit", name, cluster.system.times.fence_ms, by_beats=True)
        self.contexts: dict[int, Held] = {}
        self.limit = 1000
        self.page = 4096
        self.endless = False
        self.mute = False
        self.asked: list[Request] = []
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
            self.dialer.start_over(self.cluster.entropy(16), self.cluster.now_us)

    def handle(self, event: Event) -> None:
        super().handle(event)
        if isinstance(event, Established):
            self.send(UnitReady(window_limit=self.limit, fifo_depth=8, request_limit_bytes=1 << 20))
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
                self._reply(call.number, ContextProgrammed(window_id=wanted.window_id, accepted=accepted))
            case CloseContext(window_id=window_id):
                self._close(window_id, call.number)

    def _program(self, wanted: ProgramContext) -> bool:
        held = self.contexts.get(wanted.window_id)
        if held is None:
            if len(self.contexts) >= self.limit:
                return False
            self.contexts[wanted.window_id] = Held(wanted.token, wanted.process_id)
            return True
        if held.closers or (held.in_flight and held.process_id != wanted.process_id):
            return False
        held.token, held.process_id = wanted.token, wanted.process_id
        return True

    def _close(self, window_id: int, number: int) -> None:
        held = self.contexts.get(window_id)
        if held is None:
            self._reply(number, ContextClosed(window_id=window_id, bytes_processed=0))
            return
        held.closers.append(number)
        if held.in_flight:
            notice = ContextDraining(window_id=window_id, in_flight=held.in_flight)
            self.dialer.send(self.dialer.session, notice)
        else:
            self._gone(window_id)

    def complete(self, window_id: int) -> None:
        """The last request of the window is done."""
        held = self.contexts[window_id]
        held.in_flight = 0
        if held.closers:
            self._gone(window_id)

    def _gone(self, window_id: int) -> None:
        for number in self.contexts.pop(window_id).closers:
            self._reply(number, ContextClosed(window_id=window_id, bytes_processed=0))

    def _reply(self, number: int, reply: Reply) -> None:
        self.dialer.answer(self.dialer.session, number, reply)

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


class FakeConsole(End):
    """A management console: its life is its connection."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster, CONSOLE, "hmc", name, cluster.system.times.client_lease_ms, by_beats=False)
