"""Following the partition's configuration: ask what has changed, apply it once, report. Source: design.md, "Wire".

A notice or a beat's generation only wakes this up. What is to be done comes from QueryConfiguration, one generation
after the other, and the hypervisor sends the next only after `Reconfigured` for this one.
"""

from __future__ import annotations

from enum import Enum, auto

from lpar.alarms import Alarms
from lpar.drmgr import Drmgr
from lpar.walk import Reconfiguration
from protocol.asked_again import AGAIN_US
from protocol.clock import MILLISECOND_US
from protocol.dialer import Dialer
from protocol.exchange import BacklogFull
from protocol.hcall_messages import (
    Configuration,
    ConfigurationChange,
    ConfigurationKind,
    Noted,
    QueryConfiguration,
    Reconfigured,
)
from protocol.message import Reply, Request
from protocol.session_messages import Refused

CALL_AGAIN_US = 10 * MILLISECOND_US


class FollowStage(Enum):
    """What the follower waits for."""

    BOOTING = auto()
    IDLE = auto()
    ASKED = auto()
    APPLYING = auto()
    REPORTED = auto()


class ConfigurationFollower:
    """Applies the hypervisor's changes strictly in order. `generation` is the last one applied, or the base at boot.

    `knows_base`: whether it has been told. Until then the entitlement is the system file's, maybe an old one.
    """

    def __init__(self, dialer: Dialer, alarms: Alarms, drmgr: Drmgr) -> None:
        self.dialer = dialer
        self.alarms = alarms
        self.drmgr = drmgr
        self.generation = 0
        self.wanted = 0
        self.stage = FollowStage.BOOTING
        self.knows_base = False
        self._writes_when_asked = 0
        self._report: Reconfigured | None = None

    def booted(self, now_us: int) -> None:
        """Ask at once: the first answer is the base, and what is pending is applied."""
        self._ask(now_us)

    def heard(self, generation: int, now_us: int) -> None:
        """A notice or a beat's echo named a generation."""
        self.wanted = max(self.wanted, generation)
        self._go_on(now_us)

    def answered(self, reply: Reply | Refused, now_us: int) -> None:
        """The answer to QueryConfiguration or Reconfigured came."""
        if self.stage is FollowStage.ASKED:
            if isinstance(reply, Configuration) and self._is_ahead(reply):
                self.stage = FollowStage.IDLE
                self.knows_base = True
                self._act(reply, now_us)
            else:
                self._not_told(reply, now_us)
        elif self.stage is FollowStage.REPORTED and isinstance(reply, Noted):
            self.stage = FollowStage.IDLE
            self._go_on(now_us)
        elif self.stage is FollowStage.REPORTED and self._report is not None:
            report = self._report
            self._complain("report_not_noted", reply)
            self.alarms.set(now_us + AGAIN_US, lambda moment_us: self._call(report, moment_us))

    def _not_told(self, reply: Reply | Refused, now_us: int) -> None:
        """A later beat makes us ask again. For the base, which no beat may ever tell of, we do so of our own accord."""
        self._complain("configuration_not_told", reply)
        if self.knows_base:
            self.stage = FollowStage.IDLE
            self.wanted = self.generation
        else:
            self.stage = FollowStage.BOOTING
            self.alarms.set(now_us + AGAIN_US, self._ask)

    def _is_ahead(self, configuration: Configuration) -> bool:
        """A change that was applied already, or that is newer than the newest, is none that we are to apply."""
        change = configuration.change
        return change is None or self.generation < change.generation <= configuration.generation

    def _go_on(self, now_us: int) -> None:
        if self.stage is FollowStage.IDLE and self.wanted > self.generation:
            self._ask(now_us)

    def _ask(self, now_us: int) -> None:
        self.stage = FollowStage.ASKED
        self._writes_when_asked = self.drmgr.lparcfg.writes
        self._call(QueryConfiguration(generation=self.generation), now_us)

    def _act(self, configuration: Configuration, now_us: int) -> None:
        change = configuration.change
        if change is None or change.kind is not ConfigurationKind.ENTITLEMENT:
            self._show(configuration.hundredths)
        if change is None:
            self.generation = max(self.generation, configuration.generation)
            self.wanted = self.generation
            return
        self.stage = FollowStage.APPLYING
        self.wanted = max(self.wanted, change.generation)

        def applied(result: Reconfiguration, moment_us: int) -> None:
            self._applied(change, result, moment_us)

        self.drmgr.apply(change, now_us, applied)

    def _show(self, hundredths: int | None) -> None:
        """What lparcfg shows; an answer from before a write of the partition's own is too old."""
        if hundredths is not None and self.drmgr.lparcfg.writes == self._writes_when_asked:
            self.drmgr.lparcfg.hundredths = hundredths

    def _applied(self, change: ConfigurationChange, result: Reconfiguration, now_us: int) -> None:
        self.generation = change.generation
        self.stage = FollowStage.REPORTED
        self._report = report = Reconfigured(
            generation=change.generation,
            accepted=result.failure is None,
            error="" if result.failure is None else result.failure.detail,
            closed=tuple(result.closed),
            reopened=tuple(result.reopened),
        )
        self.drmgr.driver.note(
            "info" if report.accepted else "error",
            "reconfigured",
            generation=change.generation,
            kind=change.kind.value,
            closed=len(result.closed),
            reopened=len(result.reopened),
            why=report.error,
        )
        self._call(report, now_us)

    def _call(self, request: Request, now_us: int) -> None:
        try:
            self.dialer.call(self.dialer.session, request, now_us)
        except BacklogFull:
            self.alarms.set(now_us + CALL_AGAIN_US, lambda moment_us: self._call(request, moment_us))

    def _complain(self, event: str, reply: Reply | Refused) -> None:
        self.drmgr.driver.note("error", event, generation=self.generation, came=reply.type)
