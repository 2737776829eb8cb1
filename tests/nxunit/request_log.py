"""A model of a unit's requests that keeps nothing but their log, and looks everything up in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

DEPTH, TABLE = 2, 3


@dataclass(eq=False)
class Entry:
    """One request in the model's log. `window` is the life it belongs to, not the window id."""

    window: Opening
    number: int
    size: int
    client: bytes
    is_repeat: bool
    high: bool
    stage: Literal["queued", "running", "faulted", "over"] = "queued"
    held_low: bool = False
    had_fault: bool = False


@dataclass(eq=False)
class Opening:
    """One life of a window, from its programming to its end."""

    window_id: int
    token: bytes
    qos: bool
    credits: int
    process_id: int
    shut: bool = False
    refused: int = -1
    waiting_closes: list[int] = field(default_factory=list)


class RequestLog:
    """What the model knows: the windows' lives, and every request in the order of acceptance."""

    openings: list[Opening]
    log: list[Entry]

    def opening(self, window_id: int) -> Opening | None:
        return next((opening for opening in self.openings if opening.window_id == window_id), None)

    def open_requests(self, opening: Opening) -> list[Entry]:
        return [entry for entry in self.log if entry.window is opening and entry.stage != "over"]

    def last(self, opening: Opening) -> Entry | None:
        entries = [entry for entry in self.log if entry.window is opening]
        return max(reversed(entries), key=lambda entry: entry.number, default=None)

    def holders(self, opening: Opening) -> list[Entry]:
        """The requests that hold a window credit: all but repeats, and repeats that have faulted."""
        return [entry for entry in self.open_requests(opening) if not entry.is_repeat or entry.stage == "faulted"]

    def faults(self) -> list[Entry]:
        return [entry for entry in self.log if entry.stage == "faulted"]

    def slots(self, high: bool) -> int:
        """The high FIFO has a slot for every QoS window credit, and one for a repeat of each window."""
        guaranteed = sum(opening.credits + 1 for opening in self.openings if opening.qos)
        return max(DEPTH, guaranteed) if high else DEPTH

    def queue(self, high: bool) -> list[Entry]:
        return [entry for entry in self.log if entry.stage == "queued" and entry.high is high]

    def verdict(self, window_id: int, token: bytes, number: int) -> str:
        """What the unit is to say to a paste; a number that is refused stays so."""
        opening = self.opening(window_id)
        if opening is None or opening.token != token:
            return "faulted"
        last = self.last(opening)
        if last is not None and number < last.number:
            return "nothing"
        if last is not None and number == last.number and (last.stage != "over" or last.had_fault):
            return "accepted again"
        if opening.shut:
            return "faulted"
        repeats = last is not None and number == last.number
        if not repeats and number <= opening.refused:
            return "refused"
        full = len(self.queue(opening.qos)) >= self.slots(opening.qos)
        if full or (not repeats and len(self.holders(opening)) >= opening.credits):
            assert not (full and opening.qos), "QoS is guaranteed"
            opening.refused = max(opening.refused, number)
            return "refused"
        return "repeat" if repeats else "accepted"

    def held_low(self, entry: Entry) -> bool:
        """Whether high-priority work waits behind a request; a repeat is held as its original was."""
        if not entry.is_repeat:
            return any(other is not entry for other in self.queue(True))
        same = (each for each in self.log if each.window is entry.window and each.number == entry.number)
        return next(same).held_low
