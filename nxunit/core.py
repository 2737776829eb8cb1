"""The core of an NX unit: contexts programmed by the hypervisor, pastes from clients, one job at a time. Pure.

The unit fences itself by time: when the latest beat that the hypervisor echoed was sent `fence_ms` ago, it drops its
contexts and what is queued, so that the hypervisor can count an unreachable unit as quiet. It takes contexts only
while that lease holds. Nothing else drops them: an ended session is opened anew and the hypervisor reconciles.
"""

from __future__ import annotations

from collections.abc import Callable

from nxunit.acceptance import PASTE_LINK, PasteAcceptance
from nxunit.context import Context, ContextTable
from nxunit.fifo import AcceptedPaste, ReceiveFifos
from nxunit.job import Job, Outcome
from nxunit.resume import SuspendedJobs
from nxunit.statistics import Counters, UnitStatistics
from protocol import fabric_messages as fabric
from protocol.clock import MILLISECOND_US, SECOND_US, earliest
from protocol.codes import ExitCode
from protocol.dialer import Dialer, Identity
from protocol.effects import Effects, Exit, Peer
from protocol.paste_messages import Paste, PasteCompleted
from protocol.refusals import RefusalCode
from protocol.session import Answered, Called, Ended, Established, Event
from protocol.session_messages import ByeDone, Refused
from protocol.system import ChipSettings, SystemSettings
from protocol.wire import Envelope

FABRIC_LINK = "fabric"
NO_LEASE_RETRY_MS = 100
BYE_WAIT_US = 1 * SECOND_US
LINGER_US = 100 * MILLISECOND_US
"""How long the last completions get to leave the process after the last one was sent."""
INCARNATION_BYTES = 16
SECRET_BYTES = 32


class UnitCore:
    """One NX unit. The shell takes a job, runs it on the engine and hands the outcome back."""

    def __init__(
        self,
        system: SystemSettings,
        chip: ChipSettings,
        identity: Identity,
        fabric_endpoint: str,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.effects = Effects()
        self.system = system
        self.chip = chip
        self.entropy = entropy
        times = system.times
        self.fence_us = times.fence_ms * MILLISECOND_US
        terms = times.terms(times.fence_ms, by_beats=True)
        self.dialer = Dialer(FABRIC_LINK, fabric_endpoint, identity, terms, self.effects)
        self.contexts = ContextTable(system.limits.windows_per_unit)
        self.fifos = ReceiveFifos(chip.fifo_depth)
        self.counters = Counters()
        self.acceptance = PasteAcceptance(self.contexts, self.fifos, self.counters, self.effects)
        self.suspended = SuspendedJobs(entropy(SECRET_BYTES))
        self._running: tuple[Job, AcceptedPaste] | None = None
        self._lease_anchor_us: int | None = None
        self._ready_number: int | None = None
        self._bye_us: int | None = None
        self._bye_done = False

    # What the shell calls.

    def start(self, now_us: int) -> None:
        self.dialer.open(now_us)

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        self._fence_if_due(now_us)
        body = envelope.body
        if link == PASTE_LINK:
            if isinstance(body, Paste):
                self.acceptance.receive(peer, body, envelope.frames[0])
            return
        if isinstance(body, ByeDone) and self._bye_us is not None:
            self._bye_done = True
        for event in self.dialer.receive(envelope, now_us):
            self._handle(event, now_us)
        anchor_us = self.dialer.lease_anchor_us
        if anchor_us is not None:
            self._lease_anchor_us = max(anchor_us, self._lease_anchor_us or 0)

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        """A client is gone: its requests complete all the same, and its kernel closes its windows."""

    def tick(self, now_us: int) -> None:
        self._fence_if_due(now_us)
        if self._bye_us is None:
            self.dialer.tick(now_us)
        if self.acceptance.stopping:
            self._wind_up(now_us)

    def wake_us(self) -> int | None:
        if self._bye_us is not None:
            return self._bye_us + (LINGER_US if self._bye_done else BYE_WAIT_US)
        fence_us = None
        if self.contexts and self._lease_anchor_us is not None:
            fence_us = self._lease_anchor_us + self.fence_us
        return earliest(self.dialer.wake_us(), fence_us)

    def stop(self, now_us: int) -> None:
        """Refuse new pastes, finish what is queued, say BYE, then exit."""
        self.acceptance.stopping = True
        self.effects.note("info", "unit_stopping", queued=len(self.fifos.high) + len(self.fifos.normal))
        self._wind_up(now_us)

    def take_job(self, now_us: int) -> Job | None:
        """Pull the next request, which frees its FIFO slot. None: nothing waits, or the engine has a job already."""
        self._fence_if_due(now_us)
        if self._running is not None:
            return None
        paste = self.fifos.pull()
        if paste is None:
            return None
        state = None
        if paste.crb.resume:
            state = self.suspended.find(paste.context.key, paste.crb.resume, now_us)
        job = Job(paste.crb, paste.frame, state)
        self._running = (job, paste)
        return job

    @property
    def has_work(self) -> bool:
        """Whether `take_job` would give a job."""
        return bool(self.fifos) and self._running is None

    def finish(self, job: Job, outcome: Outcome, now_us: int) -> None:
        """The engine is done: send the status block and the target, then return the window credit.

        The outcome of a job that a fence has dropped meanwhile goes nowhere.
        """
        self._fence_if_due(now_us)
        if self._running is None or self._running[0] is not job:
            return
        paste = self._running[1]
        context = paste.context
        self._running = None
        self._complete(paste, outcome, now_us)
        context.jobs -= 1
        if context.pending is paste:
            context.pending = None
        if not paste.recomputes:
            context.credits_taken -= 1
        if context.closing and not context.jobs:
            self._closed(context)
        if self.acceptance.stopping:
            self._wind_up(now_us)

    def statistics(self) -> UnitStatistics:
        """The counters so far and the sizes of the tables now."""
        fifos = self.fifos
        return self.counters.snapshot(len(self.contexts), len(fifos.high), len(fifos.normal), len(self.suspended))

    # Requests.

    def _complete(self, paste: AcceptedPaste, outcome: Outcome, now_us: int) -> None:
        csb, context = outcome.csb, paste.context
        if outcome.suspended is not None:
            progress = (csb.processed_bytes, csb.target_bytes, csb.crc32, csb.adler32)
            token = self.suspended.keep(
                context.key, paste.number, paste.crb.resume, progress, outcome.suspended, now_us
            )
            csb = csb.model_copy(update={"resume": token})
        completed = PasteCompleted(window_id=context.window_id, number=paste.number, csb=csb)
        self.effects.send(PASTE_LINK, paste.peer, Envelope(completed, frames=(outcome.target,)))
        if paste.recomputes:
            return
        source_bytes = max(csb.processed_bytes - paste.crb.history_bytes, 0)
        context.bytes_processed += source_bytes
        self.counters.bytes_in += source_bytes
        self.counters.bytes_out += csb.target_bytes
        self.counters.completed[csb.code] += 1

    # The hypervisor.

    def _handle(self, event: Event, now_us: int) -> None:
        if isinstance(event, Called):
            self._called(event, now_us)
        elif isinstance(event, Established):
            self._established(event, now_us)
        elif isinstance(event, Answered) and event.number == self._ready_number:
            self._ready_number = None
            if isinstance(event.reply, Refused):
                self.effects.note("warning", "unit_ready_refused", code=str(event.reply.code))
        elif isinstance(event, Ended):
            self._ended(event.refusal, now_us)

    def _established(self, event: Established, now_us: int) -> None:
        self.effects.note("info", "fabric_session", epoch=event.session.epoch, resumed=event.resumed)
        if self._ready_number is None:
            ready = fabric.UnitReady(
                window_limit=self.contexts.limit,
                fifo_depth=self.fifos.depth,
                request_limit_bytes=self.system.request_limit_bytes,
            )
            self._ready_number = self.dialer.call(event.session, ready, now_us)

    def _ended(self, refusal: Refused, now_us: int) -> None:
        if refusal.code is not RefusalCode.SESSION_DEAD:
            reason = f"{refusal.code}: expected {refusal.expected}, came {refusal.came}"
            self.effects.exit = Exit(ExitCode.REFUSED, f"the hypervisor refused this unit: {reason}")
            return
        self.effects.note("warning", "fabric_session_dead", contexts=len(self.contexts))
        self._start_over(now_us)

    def _start_over(self, now_us: int) -> None:
        """A new session; the contexts stay until the hypervisor closes them or the fence does."""
        self._ready_number = None
        self.dialer.start_over(self.entropy(INCARNATION_BYTES), now_us)

    def _called(self, event: Called, now_us: int) -> None:
        body = event.body
        if isinstance(body, fabric.ProgramContext):
            self._program(event, body, now_us)
        elif isinstance(body, fabric.CloseContext):
            self._close(event, body)
        elif isinstance(body, fabric.ListContexts):
            self.dialer.answer(event.session, event.number, self.contexts.page(body.above))

    def _program(self, event: Called, wanted: fabric.ProgramContext, now_us: int) -> None:
        if self.acceptance.stopping or not self._lease_holds(now_us):
            # Before the first echo of a beat there is nothing from which the fence could be counted.
            self.dialer.retry(event.session, event.number, NO_LEASE_RETRY_MS)
            return
        accepted = self.contexts.program(wanted)
        if not accepted:
            facts = {"contexts": len(self.contexts), "limit": self.contexts.limit}
            self.effects.note("warning", "context_not_programmed", window_id=wanted.window_id, **facts)
        answer = fabric.ContextProgrammed(window_id=wanted.window_id, accepted=accepted)
        self.dialer.answer(event.session, event.number, answer)

    def _close(self, event: Called, wanted: fabric.CloseContext) -> None:
        context = self.contexts.find(wanted.window_id)
        if context is None:
            unknown = fabric.ContextClosed(window_id=wanted.window_id, bytes_processed=0)
            self.dialer.answer(event.session, event.number, unknown)
            return
        context.closing = True
        context.closers.append((event.session, event.number))
        if context.jobs:
            draining = fabric.ContextDraining(window_id=context.window_id, in_flight=context.jobs)
            self.dialer.send(event.session, draining)
        else:
            self._closed(context)

    def _closed(self, context: Context) -> None:
        """The last request is done: the context is gone, everyone who asked for that is told."""
        self.contexts.remove(context)
        self.suspended.forget(context.key)
        answer = fabric.ContextClosed(window_id=context.window_id, bytes_processed=context.bytes_processed)
        for session, number in context.closers:
            self.dialer.answer(session, number, answer)

    # Fence and end.

    def _lease_holds(self, now_us: int) -> bool:
        return self._lease_anchor_us is not None and now_us < self._lease_anchor_us + self.fence_us

    def _fence_if_due(self, now_us: int) -> None:
        """Looked at before anything else is done: a process that was paused finds its messages before its clock."""
        if self.contexts and not self._lease_holds(now_us):
            self._fence(now_us)

    def _fence(self, now_us: int) -> None:
        """Become certainly quiet, and tell the hypervisor so by coming back as a new incarnation with no contexts."""
        queued = self.fifos.clear() + (self._running is not None)
        self._running = None
        self.suspended.clear()
        contexts = self.contexts.clear()
        self.counters.fences += 1
        self.effects.note("error", "unit_fenced", contexts=contexts, requests=queued, fence_us=self.fence_us)
        if self._bye_us is None:
            self._start_over(now_us)

    def _wind_up(self, now_us: int) -> None:
        """Nothing left to do: say BYE once, and exit when it was answered or nobody answers."""
        if self.fifos or self._running is not None or self.effects.exit is not None:
            return
        if self._bye_us is None:
            self._bye_us = now_us
            self._bye_done = not self.dialer.established
            self.contexts.clear()
            self.dialer.say_bye()
        waited_us = now_us - self._bye_us
        if waited_us >= (LINGER_US if self._bye_done else BYE_WAIT_US):
            self.dialer.hang_up()
            self.effects.exit = Exit(ExitCode.OK, "stopped when asked to")
