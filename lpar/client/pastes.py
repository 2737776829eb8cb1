"""Pastes on their way: numbered, repeated while unanswered, matched with what the NX units say. Pure.

There is no session on these links. A number that rises with every attempt makes a repeat harmless, and the window's
token admits it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from lpar.client.errors import MessageRefused
from lpar.client.links import paste_key
from lpar.client.paste_links import PasteLink, PasteLinks
from lpar.client.request import Csb, Request, csb_of
from lpar.client.timers import Timer, Timers
from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.effects import DIALLED, Effects
from protocol.endpoint import is_tcp
from protocol.message import PasteAddress
from protocol.paste_messages import Crb, CsbBody, Paste, PasteAccepted, PasteCompleted, PasteFaulted, PasteRefused
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from protocol.wire import Envelope

REPEAT_US = 500 * MILLISECOND_US
SILENCE_US = 3 * SECOND_US
"""After this long without a word in which an answer was due, the connection is left and a new one made."""


class PasteState(Enum):
    QUEUED = auto()
    SENT = auto()
    ACCEPTED = auto()
    REFUSED = auto()
    FAULTED = auto()
    COMPLETED = auto()
    LOST = auto()
    FAILED = auto()


_OPEN = (PasteState.QUEUED, PasteState.SENT, PasteState.ACCEPTED)


@dataclass(slots=True, eq=False)
class PendingPaste:
    """One attempt: one number, sent once or more."""

    number: int
    address: PasteAddress
    key: str
    endpoint: str
    request: Request
    crb: Crb
    state: PasteState = PasteState.QUEUED
    csb: Csb | None = None
    failure: Exception | None = None
    sent: int = 0
    sent_us: int = 0
    first_sent_us: int = 0
    settled_us: int = 0
    waited_for: bool = False
    timer: Timer | None = None

    @property
    def is_answered(self) -> bool:
        """Whether CR0 is known."""
        return self.state not in (PasteState.QUEUED, PasteState.SENT)

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in _OPEN


class PasteTraffic:
    """All pastes of a process. `changed` is told when an attempt's state moves on.

    `kernel` is the endpoint of its partition's kernel. Who reaches that over tcp pastes over tcp alone: keys guard
    nothing else, and a socket's path is one of the NX unit's machine.
    """

    def __init__(
        self, network: str, kernel: str, effects: Effects, timers: Timers, changed: Callable[[PendingPaste], None]
    ) -> None:
        self.network = network
        self.over_tcp = is_tcp(kernel)
        self.effects = effects
        self.timers = timers
        self.changed = changed
        self.links = PasteLinks(effects)
        self._number = 0
        self._by_number: dict[int, PendingPaste] = {}
        self._by_window: dict[bytes, PendingPaste] = {}

    def submit(self, address: PasteAddress, request: Request, now_us: int) -> PendingPaste:
        """Send a paste, or refuse it here while the window's one request has not completed as far as we know.

        Raises OSError with EHOSTUNREACH where the unit has no endpoint on this client's network, or not one for it.
        """
        endpoint = address.endpoints.get(self.network)
        if endpoint is None:
            known = ", ".join(sorted(address.endpoints)) or "none"
            text = f"{address.unit} has no endpoint on network {self.network!r}; it has: {known}"
            raise OSError(errno.EHOSTUNREACH, text)
        if self.over_tcp and not is_tcp(endpoint):
            expected = "expected tcp, as its partition is on tcp"
            raise OSError(errno.EHOSTUNREACH, f"{address.unit} is at {endpoint}: {expected}")
        self._number += 1
        crb = request.crb(self._number)
        pending = PendingPaste(self._number, address, paste_key(endpoint), endpoint, request, crb)
        earlier = self._by_window.get(address.token)
        if earlier is not None:
            self._nudge(earlier, now_us)
            pending.state = PasteState.REFUSED
            return pending
        self._by_window[address.token] = pending
        self._by_number[pending.number] = pending
        link = self.links.used(pending.key, pending.endpoint, pending.address.unit, now_us)
        link.queue.append(pending)
        self._send_queued(link, now_us)
        return pending

    def hold(self, pending: PendingPaste, now_us: int) -> None:
        """Somebody waits: repeat the paste while it is unanswered or its CSB does not come."""
        pending.waited_for = True
        if pending.state in (PasteState.SENT, PasteState.ACCEPTED) and pending.timer is None:
            due_us = max(now_us, pending.sent_us + REPEAT_US)
            pending.timer = self.timers.at(due_us, lambda moment: self._repeat(pending, moment))

    def let_go(self, pending: PendingPaste) -> None:
        """Nobody waits at present; the CSB is still wanted."""
        pending.waited_for = False
        self.timers.cancel(pending.timer)
        pending.timer = None

    def abandon(self, pending: PendingPaste, now_us: int) -> None:
        """Nobody will ever ask for this CSB: a later paste may overtake it."""
        if not pending.is_settled:
            self._settle(pending, PasteState.LOST, now_us)

    def receive(self, key: str, envelope: Envelope, now_us: int) -> None:
        """An NX unit said something. Answers to what nobody asked (any more) are ignored."""
        link = self.links.by_key.get(key)
        if link is None:
            return
        link.heard_us = now_us
        body = envelope.body
        if isinstance(body, Refused):
            self._message_refused(link, envelope.number, body, now_us)
        elif isinstance(body, PasteAccepted | PasteRefused | PasteFaulted | PasteCompleted):
            pending = self._by_number.get(body.number)
            if pending is None or pending.key != key or pending.address.window_id != body.window_id:
                return
            self._answered(link, pending, body, envelope, now_us)

    def has_heard(self, key: str) -> bool:
        """Whether anything has ever come from there."""
        link = self.links.by_key.get(key)
        return link is not None and link.heard_us > 0

    def undialable(self, key: str, failure: Exception, now_us: int) -> None:
        """The endpoint is no address: what was to be pasted there fails."""
        for pending in [entry for entry in self._by_number.values() if entry.key == key]:
            pending.failure = failure
            self._settle(pending, PasteState.FAILED, now_us)
        self.links.by_key.pop(key, None)

    def write_csb(self, csb_address: int, body: CsbBody, now_us: int) -> None:
        """The kernel wrote a status block: the request whose block it is has ended. Nobody's address is ignored."""
        for pending in self._by_number.values():
            if pending.sent and pending.crb.csb_address == csb_address:
                pending.csb = csb_of(body, b"")
                self._settle(pending, PasteState.COMPLETED, now_us)
                return

    def clear_queues(self) -> None:
        """The process has died: what has not been sent is not going to be."""
        for link in self.links.by_key.values():
            link.queue.clear()

    def abandon_all(self, now_us: int) -> None:
        """Nobody will ask for any CSB."""
        for pending in list(self._by_number.values()):
            self._settle(pending, PasteState.LOST, now_us)

    def close(self) -> None:
        """Hang up everywhere."""
        self.links.close()

    def _answered(
        self,
        link: PasteLink,
        pending: PendingPaste,
        body: PasteAccepted | PasteRefused | PasteFaulted | PasteCompleted,
        envelope: Envelope,
        now_us: int,
    ) -> None:
        accepted = pending.state is PasteState.ACCEPTED
        if isinstance(body, PasteCompleted):
            pending.csb = csb_of(body.csb, envelope.frames[0])
            self._settle(pending, PasteState.COMPLETED, now_us)
        elif isinstance(body, PasteFaulted):
            # A repeat of an accepted paste faulted: its context went, and the CSB with it.
            self._settle(pending, PasteState.LOST if accepted else PasteState.FAULTED, now_us)
        elif isinstance(body, PasteAccepted) and not accepted:
            pending.state = PasteState.ACCEPTED
            link.unanswered.discard(pending.number)
            self._send_queued(link, now_us)
            self.changed(pending)
        elif isinstance(body, PasteRefused) and not accepted:
            self._settle(pending, PasteState.REFUSED, now_us)
        # A refused repeat of an accepted paste found the FIFO full: it is repeated again.

    def _message_refused(self, link: PasteLink, number: int, refusal: Refused, now_us: int) -> None:
        if not number and len(link.unanswered) == 1:
            number = next(iter(link.unanswered))
        pending = self._by_number.get(number)
        if pending is None or pending.key != link.key:
            return
        accepted = pending.state is PasteState.ACCEPTED
        if not refusal.code.definite:
            if not accepted:
                self._settle(pending, PasteState.REFUSED, now_us)
        elif accepted:
            self._settle(pending, PasteState.LOST, now_us)
        elif refusal.code is RefusalCode.STALE_TOKEN:
            self._settle(pending, PasteState.FAULTED, now_us)
        else:
            text = f"{pending.address.unit} refused a paste: {refusal.code}: expected {refusal.expected}"
            pending.failure = MessageRefused(refusal.code, f"{text}, came {refusal.came}")
            self._settle(pending, PasteState.FAILED, now_us)

    def _settle(self, pending: PendingPaste, state: PasteState, now_us: int) -> None:
        pending.state = state
        pending.settled_us = now_us
        self.let_go(pending)
        self._by_number.pop(pending.number, None)
        if self._by_window.get(pending.address.token) is pending:
            del self._by_window[pending.address.token]
        link = self.links.by_key.get(pending.key)
        if link is not None:
            link.unanswered.discard(pending.number)
            if pending in link.queue:
                link.queue.remove(pending)
            self._send_queued(link, now_us)
        self.changed(pending)

    def _send_queued(self, link: PasteLink, now_us: int) -> None:
        while link.queue and link.has_room:
            pending = link.queue.popleft()
            pending.state = PasteState.SENT
            pending.first_sent_us = now_us
            link.unanswered.add(pending.number)
            self._send(pending, now_us)
            if pending.waited_for:
                self.hold(pending, now_us)

    def _send(self, pending: PendingPaste, now_us: int) -> None:
        request, address = pending.request, pending.address
        pending.sent += 1
        pending.sent_us = now_us
        body = Paste(window_id=address.window_id, token=address.token, number=pending.number, crb=pending.crb)
        payload = request.history + request.source if request.history else request.source
        envelope = Envelope(body, number=pending.number, frames=(payload,))
        self.effects.send(pending.key, DIALLED, envelope)

    def _nudge(self, pending: PendingPaste, now_us: int) -> None:
        """Something waits behind this one: it may be that only its CSB was lost."""
        if not pending.waited_for and pending.sent and now_us >= pending.sent_us + REPEAT_US:
            self._repeat(pending, now_us)

    def _repeat(self, pending: PendingPaste, now_us: int) -> None:
        pending.timer = None
        link = self.links.used(pending.key, pending.endpoint, pending.address.unit, now_us)
        if now_us >= max(link.heard_us, link.dialled_us, pending.first_sent_us) + SILENCE_US:
            self.links.dial(link, now_us)
        self._send(pending, now_us)
        if pending.waited_for:
            self.hold(pending, now_us)
