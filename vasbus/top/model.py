"""What `vasbus top` knows: the picture kept right by snapshots, the activity, and the kernels' own counters. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from hmc.stream import Arrival, TelemetryStream
from protocol.clock import SECOND_US
from protocol.console_messages import SystemStatus
from protocol.message import Message
from vasbus.top.activity import Activity
from vasbus.top.picture import Picture

SNAPSHOT_LATEST_US = 5 * SECOND_US
"""Without any sign of need: a lost last message shows in no gap."""
SNAPSHOT_EARLIEST_US = SECOND_US // 2


@dataclass(frozen=True, slots=True)
class KernelView:
    """One partition's own counters of one credit type: `closed` are windows that wait for a credit."""

    total: int
    used: int
    closed: int


@dataclass(slots=True)
class Model:
    """Fed by whoever reads the sockets. Times are the observer's, in microseconds."""

    began_us: int
    picture: Picture = field(default_factory=Picture)
    activity: Activity = field(init=False)
    stream: TelemetryStream[Message] = field(init=False)
    kernels: dict[str, dict[str, KernelView] | None] = field(default_factory=dict)
    heard_us: int = 0
    trouble: str = ""
    _snapshot_us: int | None = None

    def __post_init__(self) -> None:
        self.activity = Activity(self.began_us)
        self.stream = TelemetryStream(self.picture.apply, self._hear)

    def arrive(self, number: int, message: Message, now_us: int) -> None:
        """A message of the stream."""
        at_us: int = getattr(message, "at_us", 0)
        self.heard_us = now_us
        self.stream.arrive(Arrival(number, at_us, message))

    def snapshot_due(self, now_us: int) -> bool:
        """Whether a snapshot should be asked for: at once after a gap, soon after a change, sometimes anyway."""
        if self._snapshot_us is None:
            return True
        age_us = now_us - self._snapshot_us
        needed = self.stream.wants_snapshot or self.picture.is_stale
        return age_us >= (SNAPSHOT_EARLIEST_US if needed else SNAPSHOT_LATEST_US)

    def ask(self) -> None:
        """A snapshot is being asked for."""
        self.stream.ask()

    def snapshot(self, status: SystemStatus, now_us: int) -> None:
        """It came."""
        self._snapshot_us = now_us
        self.heard_us = max(self.heard_us, now_us)
        self.trouble = ""
        self.stream.snapshot(status.telemetry_sequence, status.pid, lambda: self.picture.replace(status))

    def _hear(self, message: Message) -> None:
        self.activity.hear(message, self.heard_us)

    def unreachable(self, reason: str, now_us: int) -> None:
        """Nobody answered."""
        self._snapshot_us = now_us
        self.trouble = reason
        self.stream.unanswered()
