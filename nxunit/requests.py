"""Requests from the receive FIFO through the engine to their completion. Pure."""

from __future__ import annotations

from nxunit.acceptance import PASTE_LINK
from nxunit.fifo import AcceptedPaste, ReceiveFifos
from nxunit.job import Completion, Job
from nxunit.resume import SuspendedJobs
from nxunit.statistics import Counters
from protocol.effects import Effects
from protocol.paste_messages import PasteCompleted
from protocol.wire import Envelope


class Requests:
    """One job at a time: the engine's place, and what comes of a job that is over."""

    def __init__(self, fifos: ReceiveFifos, suspended: SuspendedJobs, counters: Counters, effects: Effects) -> None:
        self.fifos = fifos
        self.suspended = suspended
        self.counters = counters
        self.effects = effects
        self._running: tuple[Job, AcceptedPaste] | None = None

    @property
    def idle(self) -> bool:
        """Whether the engine has no job."""
        return self._running is None

    @property
    def done(self) -> bool:
        """Whether nothing is queued or running."""
        return self.idle and not self.fifos

    def take(self, now_us: int) -> Job | None:
        """Pull the next request. None: nothing waits, or the engine has a job already.

        While another request waits with high priority the job is held to the low byte-count limit (user's manual
        p. 56, 64). A repeat is held as the request that it repeats was, so that it gives the same answer.
        """
        if self._running is not None:
            return None
        paste = self.fifos.pull()
        if paste is None:
            return None
        self.counters.queue_time[paste.priority].observe(now_us - paste.since_us)
        paste.since_us = now_us
        context = paste.context
        low_limit = context.held_low if paste.recomputes else bool(self.fifos.high)
        if paste.number == context.last_number:
            context.held_low = low_limit
        state = None
        if paste.crb.resume:
            state = self.suspended.find(context.key, paste.crb.resume, now_us)
        job = Job(paste.crb, paste.frame, state, low_limit)
        self._running = (job, paste)
        return job

    def finish(self, job: Job, now_us: int) -> AcceptedPaste | None:
        """The engine is done with a job: its request. None: a fence has dropped it meanwhile."""
        if self._running is None or self._running[0] is not job:
            return None
        paste = self._running[1]
        self._running = None
        self.counters.observe_job(paste.crb.function, now_us - paste.since_us)
        context = paste.context
        if context.pending is paste:
            context.pending = None
        return paste

    def complete(self, paste: AcceptedPaste, completion: Completion, now_us: int) -> None:
        """Send the status block and the target, then return the window credit."""
        csb, context = completion.csb, paste.context
        if completion.suspended is not None:
            progress = (csb.processed_bytes, csb.target_bytes, csb.crc32, csb.adler32)
            token = self.suspended.keep(
                context.key, paste.number, paste.crb.resume, progress, completion.suspended, now_us
            )
            csb = csb.model_copy(update={"resume": token})
        completed = PasteCompleted(window_id=context.window_id, number=paste.number, csb=csb)
        self.effects.send(PASTE_LINK, paste.peer, Envelope(completed, frames=(completion.target,)))
        context.jobs -= 1
        if paste.recomputes:
            return
        context.credits_taken -= 1
        source_bytes = max(csb.processed_bytes - paste.crb.history_bytes, 0)
        context.bytes_processed += source_bytes
        self.counters.bytes_in += source_bytes
        self.counters.bytes_out += csb.target_bytes
        self.counters.completed[csb.code] += 1

    def drop(self) -> int:
        """Forget what is queued and running; returns how many requests that were."""
        dropped = self.fifos.clear() + (self._running is not None)
        self._running = None
        return dropped
