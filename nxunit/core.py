"""The core of an NX unit: contexts programmed by the hypervisor, pastes from clients, one job at a time. Pure.

The unit fences itself by time: when the latest beat that the hypervisor echoed was sent `fence_ms` ago, it drops its
contexts and what is queued, so that the hypervisor can count an unreachable unit as quiet. It takes contexts only
while that lease holds. Nothing else drops them: an ended session is opened anew and the hypervisor reconciles.
"""

from __future__ import annotations

from collections.abc import Callable

from nxunit.acceptance import PASTE_LINK, PasteAcceptance
from nxunit.announcements import Announcements
from nxunit.context import ContextTable
from nxunit.fifo import ReceiveFifos
from nxunit.job import Job, Outcome, TranslationFault
from nxunit.metrics import unit_metrics
from nxunit.requests import Requests
from nxunit.resume import SuspendedJobs
from nxunit.statistics import Counters, UnitStatistics
from nxunit.windows import Windows
from protocol import fabric_messages as fabric
from protocol.clock import MILLISECOND_US, SECOND_US, earliest
from protocol.codes import ExitCode
from protocol.dialer import Dialer, Identity
from protocol.effects import Effects, Exit, Peer
from protocol.metrics import Family
from protocol.paste_messages import Paste
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
FAULTS_WAIT_US = 2 * SECOND_US
"""How long a stopping unit with nothing else to do lets kernels fetch the translation faults that it holds."""
INCARNATION_BYTES = 16
SECRET_BYTES = 32
GUARD_BYTES = 16


class UnitCore:
    """One NX unit. The shell takes a job, runs it on the engine and hands the outcome back.

    `guard` names what only one live process can hold at a time (UnitReady); without, a number of this process's own.
    """

    def __init__(
        self,
        system: SystemSettings,
        chip: ChipSettings,
        identity: Identity,
        fabric_endpoint: str,
        entropy: Callable[[int], bytes],
        guard: bytes = b"",
    ) -> None:
        self.effects = Effects()
        self.system = system
        self.chip = chip
        self.entropy = entropy
        self.guard = guard or entropy(GUARD_BYTES)
        times = system.times
        self.fence_us = times.fence_ms * MILLISECOND_US
        terms = times.terms(times.fence_ms, by_beats=True)
        self.dialer = Dialer(FABRIC_LINK, fabric_endpoint, identity, terms, self.effects)
        self.contexts = ContextTable(system.limits.windows_per_unit)
        self.fifos = ReceiveFifos(chip.fifo_depth, self.contexts)
        self.counters = Counters()
        self.acceptance = PasteAcceptance(self.contexts, self.fifos, self.counters, self.effects)
        self.suspended = SuspendedJobs(entropy(SECRET_BYTES))
        self.requests = Requests(self.fifos, self.suspended, self.counters, self.effects)
        self.windows = Windows(self.contexts, self.suspended, self.counters, self.dialer)
        self.faults = self.windows.faults
        limits = fabric.UnitReady(
            window_limit=self.contexts.limit,
            fifo_depth=self.fifos.depth,
            request_limit_bytes=system.request_limit_bytes,
            guard=self.guard,
        )
        self.announcements = Announcements(limits, self.dialer, self.faults)
        self._lease_anchor_us: int | None = None
        self._drained_us: int | None = None
        self._bye_us: int | None = None
        self._bye_done = False
        self._left: list[str] = []

    # What the shell calls.

    def start(self, now_us: int) -> None:
        self.dialer.open(now_us)

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        self._fence_if_due(now_us)
        body = envelope.body
        if link == PASTE_LINK:
            if isinstance(body, Paste):
                self.acceptance.receive(peer, body, envelope.frames[0], now_us)
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
        if not self._bye_done:
            self.announcements.tick(now_us)
            self.dialer.tick(now_us)
        if self.acceptance.stopping:
            self._wind_up(now_us)

    def wake_us(self) -> int | None:
        if self._bye_us is not None:
            over_us = self._bye_us + (LINGER_US if self._bye_done else BYE_WAIT_US)
            return over_us if self._bye_done else earliest(over_us, self.dialer.wake_us())
        fence_us = None
        if self.contexts and self._lease_anchor_us is not None:
            fence_us = self._lease_anchor_us + self.fence_us
        patience_us = None if self._drained_us is None else self._drained_us + FAULTS_WAIT_US
        return earliest(self.dialer.wake_us(), self.announcements.wake_us(), fence_us, patience_us)

    def stop(self, now_us: int) -> None:
        """Refuse new pastes, finish what is queued, let faults be fetched for a while, say BYE, then exit."""
        self.acceptance.stopping = True
        self.effects.note("info", "unit_stopping", queued=len(self.fifos.high) + len(self.fifos.normal))
        self._wind_up(now_us)

    def take_job(self, now_us: int) -> Job | None:
        """Pull the next request, which frees its FIFO slot. None: nothing waits, or the engine has a job already."""
        self._fence_if_due(now_us)
        return self.requests.take(now_us)

    @property
    def has_work(self) -> bool:
        """Whether `take_job` would give a job."""
        return bool(self.fifos) and self.requests.idle

    def finish(self, job: Job, outcome: Outcome, now_us: int) -> None:
        """The engine is done: send the status block and the target, then return the window credit.

        A request that stopped at an absent page gets neither: the hypervisor is told, and it stays a request of its
        window until the kernel has fetched the fault. The outcome of a job that a fence has dropped goes nowhere.
        """
        self._fence_if_due(now_us)
        paste = self.requests.finish(job, now_us)
        if paste is None:
            return
        if isinstance(outcome, TranslationFault):
            self.windows.stopped(paste, outcome, now_us)
        else:
            self.requests.complete(paste, outcome, now_us)
            self.windows.close_if_drained(paste.context)
        if self.acceptance.stopping:
            self._wind_up(now_us)

    def statistics(self) -> UnitStatistics:
        """The counters so far and the sizes of the tables now."""
        fifos = self.fifos
        return self.counters.snapshot(
            len(self.contexts), len(fifos.high), len(fifos.normal), len(self.suspended), len(self.faults)
        )

    def metrics(self) -> list[Family]:
        """The counters and tables for a monitoring system."""
        return unit_metrics(self.counters, self.contexts, self.fifos, len(self.faults))

    # The hypervisor.

    def _handle(self, event: Event, now_us: int) -> None:
        if isinstance(event, Called):
            self._called(event, now_us)
        elif isinstance(event, Established):
            self._established(event, now_us)
        elif isinstance(event, Answered):
            self._answered(event, now_us)
        elif isinstance(event, Ended):
            self._ended(event.refusal, now_us)

    def _established(self, event: Established, now_us: int) -> None:
        self.effects.note("info", "fabric_session", epoch=event.session.epoch, resumed=event.resumed)
        self.announcements.established(now_us, resumed=event.resumed)

    def _answered(self, event: Answered, now_us: int) -> None:
        self.announcements.answered(event, now_us)
        self.windows.fault_noted(event.number, now_us)

    def _ended(self, refusal: Refused, now_us: int) -> None:
        if self._bye_us is not None:
            # The hypervisor has taken leave; only its answer to our BYE was lost.
            self._bye_done = True
            return
        if refusal.code is not RefusalCode.SESSION_DEAD:
            reason = f"{refusal.code}: expected {refusal.expected}, came {refusal.came}"
            self.effects.exit = Exit(ExitCode.REFUSED, f"the hypervisor refused this unit: {reason}")
            return
        self.effects.note("warning", "fabric_session_dead", contexts=len(self.contexts))
        self._start_over(now_us)

    def _start_over(self, now_us: int) -> None:
        """A new session; the contexts stay until the hypervisor closes them or the fence does."""
        self.announcements.session_over()
        self.dialer.start_over(self.entropy(INCARNATION_BYTES), now_us)

    def _called(self, event: Called, now_us: int) -> None:
        body = event.body
        if isinstance(body, fabric.ProgramContext):
            if self.acceptance.stopping or not self._lease_holds(now_us):
                # Before the first echo of a beat there is nothing from which the fence could be counted.
                self.dialer.retry(event.session, event.number, NO_LEASE_RETRY_MS)
                return
            self.windows.program(event, body)
        elif isinstance(body, fabric.CloseContext):
            self.windows.close(event, body)
        elif isinstance(body, fabric.ReturnCredit):
            self.windows.return_credit(event, body, now_us)
        elif isinstance(body, fabric.ListContexts):
            self.dialer.answer(event.session, event.number, self.contexts.page(body.above))

    # Fence and end.

    def _lease_holds(self, now_us: int) -> bool:
        return self._lease_anchor_us is not None and now_us < self._lease_anchor_us + self.fence_us

    def _fence_if_due(self, now_us: int) -> None:
        """Looked at before anything else is done: a process that was paused finds its messages before its clock."""
        if self.contexts and not self._lease_holds(now_us):
            self._fence(now_us)

    def _fence(self, now_us: int) -> None:
        """Become certainly quiet, and tell the hypervisor so by coming back as a new incarnation with no contexts."""
        queued = self.requests.drop() + self.faults.clear()
        self.suspended.clear()
        contexts = self.contexts.clear()
        self.counters.fences += 1
        self.effects.note("error", "unit_fenced", contexts=contexts, requests=queued, fence_us=self.fence_us)
        if self._bye_us is None:
            self._start_over(now_us)

    def _waits_for_faults(self, now_us: int) -> bool:
        """Whether there is still time for the kernels to fetch what is held, and a hypervisor to tell of it."""
        if self._drained_us is None:
            self._drained_us = now_us
        return bool(len(self.faults)) and self.dialer.established and now_us < self._drained_us + FAULTS_WAIT_US

    def _wind_up(self, now_us: int) -> None:
        """Nothing left to do: say BYE once, and exit when it was answered or nobody answers."""
        if not self.requests.done or self.effects.exit is not None:
            return
        if self._bye_us is None:
            if self._waits_for_faults(now_us):
                return
            self._bye_us = now_us
            self._bye_done = not self.dialer.established
            self.contexts.clear()
            faults = self.faults.clear()
            self._left += [f"{faults} translation faults that no kernel has fetched"] if faults else []
            self.dialer.say_bye()
        waited_us = now_us - self._bye_us
        if waited_us >= (LINGER_US if self._bye_done else BYE_WAIT_US):
            self._left += [] if self._bye_done else ["a BYE that the hypervisor has not answered"]
            self.dialer.hang_up()
            self.effects.exit = self._ending()

    def _ending(self) -> Exit:
        if self._left:
            return Exit(ExitCode.UNFINISHED, f"stopped at the deadline; left behind: {', '.join(self._left)}")
        return Exit(ExitCode.OK, "stopped when asked to")
