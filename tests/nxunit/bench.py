"""A unit's core on a bench: a hypervisor's listener at its fabric link, clients at its paste link, a clock by hand.

Messages cross between the two cores in memory, but through the wire's encoding. `lose` drops those it names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from nxunit.core import FABRIC_LINK, UnitCore
from nxunit.job import Completion, Job, Outcome, TranslationFault
from protocol import fabric_messages as fabric
from protocol.clock import MILLISECOND_US
from protocol.codes import CompletionCode, CreditType, FunctionCode, Operand
from protocol.dialer import Identity
from protocol.effects import DIALLED, Dial, Effects, Exit, Hangup, LogLine, Peer, Send
from protocol.link import FABRIC, PASTE
from protocol.listener import Listener
from protocol.message import Message, Request
from protocol.paste_messages import Crb, CsbBody, Paste
from protocol.session import Answered, Called, Event, Noticed, Session
from protocol.system import ChipSettings, Limits, LparSettings, SystemSettings, Times
from protocol.wire import Envelope, decode, encode

UNIT = "nx0"
PASTE_ENDPOINT = "ipc:///run/nx0.paste"
CLIENT: Peer = b"client"
FENCE_US = 30_000 * MILLISECOND_US


def token_of(window_id: int) -> bytes:
    return window_id.to_bytes(16, "big")


def counting_entropy() -> Callable[[int], bytes]:
    """Bytes that differ from call to call and are the same in every run."""
    drawn = 0

    def entropy(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return drawn.to_bytes(size, "big")

    return entropy


def system_of(fifo_depth: int = 4, windows_per_unit: int = 100) -> SystemSettings:
    return SystemSettings(
        times=Times(fence_ms=FENCE_US // MILLISECOND_US),
        limits=Limits(windows_per_unit=windows_per_unit),
        chip=(ChipSettings(number=0, unit=UNIT, cores=2, fifo_depth=fifo_depth),),
        lpar=(LparSettings(name="lp1", cores=1),),
    )


def done(job: Job) -> Completion:
    """An outcome without an engine: the source comes back reversed."""
    source = job.frame[job.crb.history_bytes :]
    csb = CsbBody(
        code=CompletionCode.OK,
        extension=0x20,
        processed_bytes=len(job.frame),
        target_bytes=len(source),
        crc32=0,
        adler32=1,
    )
    return Completion(csb, source[::-1])


def stopped(job: Job) -> TranslationFault:
    """An outcome without an engine: the first page of the source is absent."""
    return TranslationFault(Operand.SOURCE, job.crb.source_address)


def everything(_message: Message) -> bool:
    """For `Bench.lose`: the fabric link is cut."""
    return True


def nothing(_message: Message) -> bool:
    """For `Bench.lose`: the fabric link is whole."""
    return False


@dataclass(slots=True)
class Told:
    """A message that the unit sent to a client."""

    peer: Peer
    body: Message
    frames: tuple[bytes, ...]

    @property
    def brief(self) -> tuple[str, int]:
        """Type without `paste_`, and number."""
        number: int = getattr(self.body, "number", -1)
        return self.body.type.removeprefix("paste_"), number


@dataclass
class Bench:
    """The unit, the other ends of its links, and everything that came out of it."""

    fifo_depth: int = 4
    windows_per_unit: int = 100
    now_us: int = 1_000_000
    lose: Callable[[Message], bool] = nothing
    silent: bool = False
    """The hypervisor leaves FaultRaised unanswered."""
    ready_answer: Message = field(default_factory=fabric.UnitNoted)
    """What the hypervisor answers to UnitReady."""
    events: list[Event] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    log: list[LogLine] = field(default_factory=list)
    exit: Exit | None = None

    def __post_init__(self) -> None:
        self.system = system_of(self.fifo_depth, self.windows_per_unit)
        endpoints = {"local": PASTE_ENDPOINT}
        identity = Identity("nxunit", UNIT, b"first incarnatio", "local", 77, endpoints)
        self.unit = UnitCore(self.system, self.system.chip[0], identity, "ipc:///run/fabric", counting_entropy())
        self._hypervisor_effects = Effects()
        self._entropy = counting_entropy()
        self._connections = 0
        self._connection: Peer | None = None
        self.restart_hypervisor()
        self.unit.start(self.now_us)
        self.pump()

    # The hypervisor.

    def restart_hypervisor(self) -> None:
        """A hypervisor that has forgotten every session."""
        times = self.system.times
        terms = times.terms(times.fence_ms, by_beats=True)
        self.hypervisor = Listener(FABRIC_LINK, terms, self._hypervisor_effects, self._entropy)
        self.hypervisor.epochs = defaultdict(lambda: 10, {})

    @property
    def session(self) -> Session:
        """The unit's session at the hypervisor."""
        return self.hypervisor.sessions[UNIT]

    def call(self, request: Request) -> int:
        """Ask the unit; `answer` finds what it said."""
        number = self.hypervisor.call(self.session, request, self.now_us)
        self.pump()
        return number

    def answer(self, number: int) -> Message | None:
        """The unit's answer to a request of the current session."""
        for event in self.events:
            if isinstance(event, Answered) and event.number == number and event.session is self.session:
                return event.reply
        return None

    def notices(self) -> list[Message]:
        return [event.body for event in self.events if isinstance(event, Noticed)]

    def program(
        self, window_id: int, credit_type: CreditType = CreditType.DEFAULT, *, token: bytes | None = None,
        window_credits: int = 1, process_id: int = 500,
    ) -> bool:  # fmt: skip
        """Have a context made; whether the unit took it."""
        wanted = fabric.ProgramContext(
            window_id=window_id,
            lpar="lp1",
            credit_type=credit_type,
            window_credits=window_credits,
            process_id=process_id,
            token=token_of(window_id) if token is None else token,
        )
        reply = self.answer(self.call(wanted))
        assert isinstance(reply, fabric.ContextProgrammed)
        return reply.accepted

    def give_back(self, window_id: int, number: int) -> int:
        """The kernel has fetched a fault."""
        return self.call(fabric.ReturnCredit(window_id=window_id, number=number))

    def close(self, window_id: int) -> int:
        return self.call(fabric.CloseContext(window_id=window_id))

    def held(self) -> list[int]:
        """The window ids that the unit lists."""
        reply = self.answer(self.call(fabric.ListContexts()))
        assert isinstance(reply, fabric.Contexts)
        return sorted(context.window_id for context in reply.contexts)

    # Clients.

    def paste(
        self, window_id: int, number: int, source: bytes = b"data", *, peer: Peer = CLIENT, token: bytes | None = None,
        crb: Crb | None = None,
    ) -> list[tuple[str, int]]:  # fmt: skip
        """Paste; what the unit said at once."""
        body = Paste(
            window_id=window_id,
            token=token_of(window_id) if token is None else token,
            number=number,
            crb=crb or Crb(function=FunctionCode.WRAP, target_bytes=1 << 20),
        )
        before = len(self.told)
        envelope = decode(encode(Envelope(body, frames=(source,))), PASTE.up)
        self.unit.receive(PASTE.name, peer, envelope, self.now_us)
        self.pump()
        return [told.brief for told in self.told[before:]]

    def work(self, run: Callable[[Job], Outcome] = done) -> list[tuple[str, int]]:
        """Let the engine do one job; what the unit then said to clients."""
        before = len(self.told)
        job = self.unit.take_job(self.now_us)
        if job is not None:
            self.unit.finish(job, run(job), self.now_us)
        self.pump()
        return [told.brief for told in self.told[before:]]

    def fault(self, window_id: int, number: int) -> None:
        """Paste a request that stops at an absent page."""
        assert self.paste(window_id, number) == [("accepted", number)]
        assert self.work(stopped) == []

    @property
    def faults_held(self) -> int:
        return self.unit.statistics().faults_outstanding

    # Time and transport.

    def advance(self, milliseconds: int, step_ms: int = 100) -> None:
        """Let time pass; both ends tick."""
        end_us = self.now_us + milliseconds * MILLISECOND_US
        while self.now_us < end_us:
            self.now_us = min(self.now_us + step_ms * MILLISECOND_US, end_us)
            self.events += self.hypervisor.tick(self.now_us)
            self.unit.tick(self.now_us)
            self.pump()

    def pump(self) -> None:
        """Carry messages until nothing moves."""
        while True:
            from_unit, from_hypervisor = self.unit.effects.take(), self._hypervisor_effects.take()
            self.log += from_unit.log
            self.exit = from_unit.exit or self.exit
            if not from_unit.transmissions and not from_hypervisor.transmissions:
                return
            for transmission in from_unit.transmissions:
                self._from_unit(transmission)
            for transmission in from_hypervisor.transmissions:
                if isinstance(transmission, Send):
                    self._from_hypervisor(transmission)

    def _from_unit(self, transmission: Send | Dial | Hangup) -> None:
        if isinstance(transmission, Hangup):
            self._connection = None
        elif isinstance(transmission, Dial):
            self._connections += 1
            self._connection = b"unit-%d" % self._connections
        elif transmission.link == PASTE.name:
            envelope = decode(encode(transmission.envelope), PASTE.down)
            self.told.append(Told(transmission.peer, envelope.body, envelope.frames))
        elif self._connection is not None and not self.lose(transmission.envelope.body):
            envelope = decode(encode(transmission.envelope), FABRIC.up)
            for event in self.hypervisor.receive(self._connection, envelope, self.now_us):
                self.events.append(event)
                if isinstance(event, Called):
                    self._note(event)

    def _note(self, event: Called) -> None:
        """Answer what the unit asks of the hypervisor."""
        if not isinstance(event.body, fabric.FaultRaised):
            self.hypervisor.answer(event.session, event.number, self.ready_answer)
        elif not self.silent:
            self.hypervisor.answer(event.session, event.number, fabric.FaultNoted())

    def note_faults(self) -> None:
        """Answer every FaultRaised of this session that a silent hypervisor has left, and from now on all."""
        self.silent = False
        for event in self.told_of(fabric.FaultRaised):
            self.hypervisor.answer(event.session, event.number, fabric.FaultNoted())
        self.pump()

    def told_of(self, kind: type[Message]) -> list[Called]:
        """The unit's requests of a kind in this session."""
        called = [event for event in self.events if isinstance(event, Called) and event.session is self.session]
        return [event for event in called if isinstance(event.body, kind)]

    def faults_told(self) -> list[tuple[int, int]]:
        """Window id and number of each fault told in this session."""
        bodies = [event.body for event in self.told_of(fabric.FaultRaised)]
        return [(body.window_id, body.number) for body in bodies if isinstance(body, fabric.FaultRaised)]

    def _from_hypervisor(self, send: Send) -> None:
        if send.peer != self._connection:
            self.hypervisor.unreachable(send.peer, self.now_us)
        elif not self.lose(send.envelope.body):
            envelope = decode(encode(send.envelope), FABRIC.down)
            self.unit.receive(FABRIC_LINK, DIALLED, envelope, self.now_us)
