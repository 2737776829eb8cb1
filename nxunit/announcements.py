"""What a unit tells the hypervisor of its own accord: its limits, and the translation faults that it holds. Pure."""

from __future__ import annotations

from nxunit.faults import HeldFaults
from protocol.asked_again import AskedAgain
from protocol.dialer import Dialer
from protocol.fabric_answers import contradiction
from protocol.fabric_messages import FaultRaised, UnitReady
from protocol.session import Answered


class Announcements:
    """A fault is told once in each session; the limits whenever one begins or is taken up again, because a hypervisor
    that was restarted does not remember them. Either is told again after a while where the answer was not that the
    hypervisor has noted it.
    """

    def __init__(self, limits: UnitReady, dialer: Dialer, faults: HeldFaults) -> None:
        self.limits = limits
        self.dialer = dialer
        self.faults = faults
        self._limits_number: int | None = None
        self._doubted = AskedAgain()

    def established(self, now_us: int, *, resumed: bool) -> None:
        """There is a session: the old one's, or a new one that knows nothing yet.

        What the session before a new one had been told was forgotten with that one (`session_over`).
        """
        if self._limits_number is None:
            self._tell_limits(now_us)
        if not resumed:
            self.faults.tell(now_us)

    def answered(self, event: Answered, now_us: int) -> None:
        """The hypervisor has noted something, or says something else."""
        if event.number == self._limits_number:
            self._limits_number = None
        why = contradiction(event.request, event.reply)
        if why:
            self._doubted.put_off(event.request, now_us)
            facts = {"request": event.request.type, "why": why[:200]}
            self.dialer.effects.note("warning", "answer_contradicts", **facts)

    def session_over(self) -> None:
        """The session is dead: the next one is told everything anew."""
        self._limits_number = None
        self._doubted.clear()
        self.faults.session_over()

    def tick(self, now_us: int) -> None:
        """Tell again what was not noted a while ago."""
        for request in self._doubted.due(now_us):
            if isinstance(request, FaultRaised):
                self.faults.tell_again(request, now_us)
            elif self._limits_number is None:
                self._tell_limits(now_us)

    def wake_us(self) -> int | None:
        return self._doubted.wake_us()

    def _tell_limits(self, now_us: int) -> None:
        self._limits_number = self.dialer.call(self.dialer.session, self.limits, now_us)
