"""How much source a request brings. Pure.

A unit suspends a request at its low byte-count limit while high-priority work waits, so that whatever source lay
beyond was sent in vain, and the history of each next request counts against the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.link import BULK_LIMIT_BYTES
from protocol.paste_messages import HISTORY_MAX_BYTES

LEAST_BYTES = 4_096
HISTORY_SHARE = 4
"""History is at most this part of the source that goes with it."""


@dataclass(slots=True)
class Pace:
    """As much as was last processed at a time; doubled whenever all of it was."""

    source_bytes: int = BULK_LIMIT_BYTES

    @property
    def history_bytes(self) -> int:
        """The history worth sending again with that much source."""
        return min(HISTORY_MAX_BYTES, self.source_bytes // HISTORY_SHARE)

    def learn(self, sent_bytes: int, processed_bytes: int) -> None:
        """A request brought so much source, of which so much was processed."""
        if processed_bytes < sent_bytes:
            self.source_bytes = max(LEAST_BYTES, processed_bytes)
        elif sent_bytes >= self.source_bytes:
            self.source_bytes = min(2 * self.source_bytes, BULK_LIMIT_BYTES)
