"""What a process's loop tells its operator: log lines, not more of an event than can be read."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from protocol.clock import SECOND_US
from protocol.codes import ExitCode
from protocol.effects import Exit, LogLine
from protocol.log_limit import LogLimiter
from protocol.wire import WireError

KEY_REFUSED_INTERVAL_US = 60 * SECOND_US
"""Keys that do not fit are told of once in so long: the process tries again several times a second."""


class NodeLog:
    """The log of one process."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._log = structlog.get_logger()
        self._limiter = LogLimiter()
        self._key_limiter = LogLimiter(1, KEY_REFUSED_INTERVAL_US)

    @property
    def suppressed_total(self) -> int:
        """Lines that were too many."""
        return self._limiter.suppressed_total + self._key_limiter.suppressed_total

    def tell(self, line: LogLine, *, always: bool = False) -> None:
        """Log a line unless there are too many of its event; one that comes through says how many did not."""
        suppressed = 0 if always else self._limiter.admit(line.event, self._clock())
        if suppressed is not None:
            self._write(line, suppressed)

    def tell_any(self, line: LogLine | None) -> None:
        """The same where there may be nothing to tell."""
        if line is not None:
            self.tell(line)

    def _write(self, line: LogLine, suppressed: int) -> None:
        more = {"suppressed": suppressed} if suppressed else {}
        getattr(self._log, line.level)(line.event, **line.facts, **more)

    def refused(self, link: str, error: WireError) -> None:
        """A message of that link was not accepted."""
        epoch = {"epoch": error.epoch} if error.epoch else {}
        self.tell(LogLine("warning", "message_refused", {"link": link, **epoch, "why": str(error)}))

    def dial_failed(self, link: str, endpoint: str, error: Exception) -> None:
        """There is no connection, and will be none."""
        self.tell(LogLine("error", "dial_failed", {"link": link, "endpoint": endpoint, "why": str(error)}))

    def key_refused(self, link: str, error: Exception) -> None:
        """No connection comes about because of the keys."""
        suppressed = self._key_limiter.admit("key_refused", self._clock())
        if suppressed is not None:
            self._write(LogLine("error", "key_refused", {"link": link, "why": str(error)}), suppressed)

    def metrics_failed(self, error: Exception | None) -> None:
        """Nobody got the metrics that were asked for; None: they did."""
        if error is not None:
            self.tell(LogLine("error", "metrics_failed", {"why": repr(error)}))

    def tell_ending(self, ending: Exit) -> None:
        """Why the process ends is never lost, nor how many lines were."""
        untold = {**self._limiter.take_suppressed(), **self._key_limiter.take_suppressed()}
        if untold:
            self._log.warning("log_lines_suppressed", lines=untold)
        if ending.code not in (ExitCode.OK, ExitCode.STOPPED_AT_ONCE):
            self._log.error("process_failed", code=ending.code.name, why=ending.reason)
