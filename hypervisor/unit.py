"""One NX unit as the hypervisor knows it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.fabric_messages import CloseContext, ContextSummary, ProgramContext
from protocol.session import Session
from protocol.system import ChipSettings

ContextRequest = ProgramContext | CloseContext


@dataclass(slots=True)
class Unit:
    """One NX unit. `quiet_us`: when it has certainly fenced itself; None once that has been acted on.

    `in_flight`: by window, the request that the unit has not answered yet. `listed`: the contexts that it has named
    so far, while it is asked for them page by page.
    """

    chip: ChipSettings
    session: Session | None = None
    endpoints: dict[str, str] = field(default_factory=dict)
    window_limit: int = 0
    ready: bool = False
    reconciled: bool = False
    quiet_us: int | None = None
    in_flight: dict[int, ContextRequest] = field(default_factory=dict)
    listed: dict[int, ContextSummary] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.chip.unit

    @property
    def reachable(self) -> bool:
        """Whether the unit is connected and heard."""
        return self.session is not None and self.session.peer is not None and not self.session.suspected

    @property
    def usable(self) -> bool:
        """Whether windows may be placed here."""
        return self.ready and self.reconciled and self.reachable

    @property
    def state(self) -> str:
        if self.session is None:
            return "absent" if self.quiet_us is not None else "fenced"
        if not self.reachable:
            return "suspected"
        return "running" if self.ready and self.reconciled else "starting"
