"""VAS window contexts: what the hypervisor has programmed, and where each window's pastes stand. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nxunit.fifo import AcceptedPaste
from nxunit.resume import WindowKey
from protocol.codes import CreditType
from protocol.fabric_messages import CONTEXT_PAGE, Contexts, ContextSummary, ProgramContext
from protocol.session import Session

NO_NUMBER = -1


@dataclass(slots=True, eq=False)
class Context:
    """One send window.

    `jobs` counts its requests that are queued, running or stopped by a translation fault, `credits_taken` those that
    hold a window credit. Of its pastes only the last number is kept: `pending` is that paste until it completes,
    `faulted` says that it ended in a translation fault, `held_low` that it was held to the low byte-count limit;
    `refused_number` is the highest that was turned away unqueued.
    """

    window_id: int
    lpar: str
    credit_type: CreditType
    window_credits: int
    process_id: int
    token: bytes
    jobs: int = 0
    credits_taken: int = 0
    last_number: int = NO_NUMBER
    refused_number: int = NO_NUMBER
    pending: AcceptedPaste | None = None
    faulted: bool = False
    held_low: bool = False
    bytes_processed: int = 0
    closing: bool = False
    closers: list[tuple[Session, int]] = field(default_factory=list)

    @property
    def key(self) -> WindowKey:
        return self.window_id, self.token

    @property
    def has_window_credit(self) -> bool:
        return self.credits_taken < self.window_credits

    @property
    def guaranteed_slots(self) -> int:
        """Slots of the high-priority FIFO that are this window's: for its window credits, and for one repeat."""
        return self.window_credits + 1 if self.credit_type is CreditType.QOS else 0

    def is_programmed_as(self, wanted: ProgramContext) -> bool:
        mine = (self.lpar, self.credit_type, self.window_credits, self.process_id, self.token)
        theirs = (wanted.lpar, wanted.credit_type, wanted.window_credits, wanted.process_id, wanted.token)
        return mine == theirs

    def summary(self) -> ContextSummary:
        return ContextSummary(window_id=self.window_id, token=self.token, process_id=self.process_id)


class ContextTable:
    """The contexts of a unit by window id, at most `limit`.

    `guaranteed_slots` are those of the high-priority FIFO that its QoS windows have between them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.guaranteed_slots = 0
        self._contexts: dict[int, Context] = {}

    def __len__(self) -> int:
        return len(self._contexts)

    def __iter__(self) -> Iterator[Context]:
        return iter(self._contexts.values())

    def find(self, window_id: int) -> Context | None:
        return self._contexts.get(window_id)

    def program(self, wanted: ProgramContext) -> bool:
        """Create a context, or replace one that has no requests queued or running.

        With the token it has already, a context keeps where its pastes stand. False, and nothing changed: the table
        is full, the context is closing, or its requests forbid the change (as H_STATE of H_MODIFY_VAS_WINDOW).
        """
        context = self._contexts.get(wanted.window_id)
        before = 0 if context is None else context.guaranteed_slots
        if context is None and len(self._contexts) >= self.limit:
            return False
        if context is not None:
            if context.closing or (context.jobs and not context.is_programmed_as(wanted)):
                return False
            if context.token == wanted.token:
                context.lpar, context.credit_type = wanted.lpar, wanted.credit_type
                context.window_credits, context.process_id = wanted.window_credits, wanted.process_id
                self.guaranteed_slots += context.guaranteed_slots - before
                return True
        context = Context(
            wanted.window_id, wanted.lpar, wanted.credit_type, wanted.window_credits, wanted.process_id, wanted.token
        )
        self._contexts[wanted.window_id] = context
        self.guaranteed_slots += context.guaranteed_slots - before
        return True

    def page(self, above: int) -> Contexts:
        """The contexts with ids above `above`, as many as one answer holds."""
        later = sorted(window_id for window_id in self._contexts if window_id > above)
        shown = tuple(self._contexts[window_id].summary() for window_id in later[:CONTEXT_PAGE])
        return Contexts(contexts=shown, more=len(later) > CONTEXT_PAGE)

    def remove(self, context: Context) -> None:
        del self._contexts[context.window_id]
        self.guaranteed_slots -= context.guaranteed_slots

    def clear(self) -> int:
        """Drop every context; returns how many there were."""
        dropped = len(self._contexts)
        self._contexts.clear()
        self.guaranteed_slots = 0
        return dropped
