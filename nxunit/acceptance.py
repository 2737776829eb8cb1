"""Paste acceptance: one window credit and one FIFO slot, or nothing (user's manual p. 28-30, 46-47). Pure."""

from __future__ import annotations

import hmac

from nxunit.context import Context, ContextTable
from nxunit.fifo import AcceptedPaste, ReceiveFifos, priority_of
from nxunit.statistics import Counters, FaultCause, RefusalCause
from protocol.effects import Effects, Peer
from protocol.paste_messages import Paste, PasteAccepted, PasteFaulted, PasteRefused
from protocol.wire import Envelope

PASTE_LINK = "paste"


class PasteAcceptance:
    """Decides on arriving pastes and answers each: accepted, refused or faulted.

    A window's numbers rise. A repeat of the last one is harmless: while the request is under way it only moves where
    the completion goes; afterwards it is computed again from the bytes resent, for which it needs a FIFO slot but no
    second window credit. One that ended in a translation fault is accepted again and not run: its status block is
    the kernel's affair. A lower number is an outdated copy that nobody waits for, and gets no answer. A number that was
    refused stays refused: its sender goes on to a new one, and a late copy must not be run beside that.
    """

    def __init__(self, contexts: ContextTable, fifos: ReceiveFifos, counters: Counters, effects: Effects) -> None:
        self.contexts = contexts
        self.fifos = fifos
        self.counters = counters
        self.effects = effects
        self.stopping = False

    def receive(self, peer: Peer, paste: Paste, frame: bytes, now_us: int) -> None:
        """Take a paste in or turn it away."""
        context = self.contexts.find(paste.window_id)
        if context is None:
            self._turn_away(peer, paste, RefusalCause.STOPPING if self.stopping else FaultCause.UNKNOWN_WINDOW)
        elif not hmac.compare_digest(context.token, paste.token):
            self._turn_away(peer, paste, FaultCause.WRONG_TOKEN)
        elif paste.number < context.last_number:
            self.counters.outdated += 1
        elif paste.number == context.last_number and (context.faulted or context.pending is not None):
            self.counters.repeated += 1
            if context.pending is not None:
                context.pending.peer = peer
            self._accept(peer, paste)
        else:
            self._queue(peer, paste, frame, context, now_us)

    def _queue(self, peer: Peer, paste: Paste, frame: bytes, context: Context, now_us: int) -> None:
        recomputes = paste.number == context.last_number
        if context.closing:
            self._turn_away(peer, paste, FaultCause.CLOSING)
            return
        if self.stopping:
            self._turn_away(peer, paste, RefusalCause.STOPPING)
            return
        if not recomputes and paste.number <= context.refused_number:
            self.counters.outdated += 1
            self._refuse(peer, paste)
            return
        if not recomputes and not context.has_window_credit:
            self._turn_away(peer, paste, RefusalCause.NO_WINDOW_CREDIT, context)
            return
        priority = priority_of(context)
        accepted = AcceptedPaste(context, paste.number, peer, paste.crb, frame, recomputes, priority, now_us)
        if not self.fifos.push(accepted):
            self._turn_away(peer, paste, RefusalCause.FIFO_FULL, context)
            return
        context.jobs += 1
        context.last_number, context.pending, context.faulted = paste.number, accepted, False
        if recomputes:
            self.counters.recomputed += 1
        else:
            context.credits_taken += 1
            self.counters.accepted += 1
        self._accept(peer, paste)

    def _accept(self, peer: Peer, paste: Paste) -> None:
        answer = PasteAccepted(window_id=paste.window_id, number=paste.number)
        self.effects.send(PASTE_LINK, peer, Envelope(answer))

    def _refuse(self, peer: Peer, paste: Paste) -> None:
        answer = PasteRefused(window_id=paste.window_id, number=paste.number)
        self.effects.send(PASTE_LINK, peer, Envelope(answer))

    def _turn_away(
        self, peer: Peer, paste: Paste, cause: RefusalCause | FaultCause, context: Context | None = None
    ) -> None:
        """Count and answer; `context` remembers the number where there is one that it was refused for."""
        if context is not None:
            context.refused_number = max(context.refused_number, paste.number)
        if isinstance(cause, FaultCause):
            self.counters.faulted[cause] += 1
            answer = PasteFaulted(window_id=paste.window_id, number=paste.number)
            self.effects.send(PASTE_LINK, peer, Envelope(answer))
        else:
            self.counters.refused[cause] += 1
            self._refuse(peer, paste)
