"""Which log lines are let through: a storm of failures must neither fill the disk nor slow the process down. Pure.

Failures come in storms by nature; Linux limits the line of a refused window open for that reason (domain.md 9).
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.clock import SECOND_US

BURST_LINES = 10
INTERVAL_US = 5 * SECOND_US
EVENTS_MOST = 256
"""Events that are counted one by one; whatever comes beyond shares one count."""
OTHER_EVENTS = "other events"


@dataclass(slots=True)
class _Interval:
    began_us: int
    let_through: int = 0
    suppressed: int = 0


class LogLimiter:
    """Lets `burst_lines` lines of each event through per `interval_us`, as printk_ratelimit of Linux does.

    An event's interval begins with the first line after the last one has run out.
    """

    def __init__(self, burst_lines: int = BURST_LINES, interval_us: int = INTERVAL_US) -> None:
        self.burst_lines = burst_lines
        self.interval_us = interval_us
        self.suppressed_total = 0
        self._intervals: dict[str, _Interval] = {}

    def admit(self, event: str, now_us: int) -> int | None:
        """Decide on a line. None: it is suppressed. Else how many were, since the last one that was let through."""
        key = event if event in self._intervals or len(self._intervals) < EVENTS_MOST else OTHER_EVENTS
        interval = self._intervals.setdefault(key, _Interval(now_us))
        if now_us >= interval.began_us + self.interval_us:
            interval.began_us, interval.let_through = now_us, 0
        if interval.let_through >= self.burst_lines:
            interval.suppressed += 1
            self.suppressed_total += 1
            return None
        interval.let_through += 1
        suppressed, interval.suppressed = interval.suppressed, 0
        return suppressed

    def take_suppressed(self) -> dict[str, int]:
        """By event, the lines that no later line has told about yet; they count as told then."""
        untold = {event: interval.suppressed for event, interval in self._intervals.items() if interval.suppressed}
        for event in untold:
            self._intervals[event].suppressed = 0
        return untold
