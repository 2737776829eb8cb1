"""What the node loop counts beside its core: messages, refusals, dropped messages, turns, commits. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.message import Message
from protocol.metrics import Family, Histogram, MetricKind, counter, labelled
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused

RECEIVED = "received"
SENT = "sent"


@dataclass(slots=True)
class NodeCounters:
    """The counts of one process. `messages` is by link, direction and type, and has no message that was refused."""

    messages: Counter[tuple[str, ...]] = field(default_factory=Counter)
    refused: Counter[tuple[str, ...]] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    turns: Histogram = field(default_factory=Histogram)
    commits: Histogram = field(default_factory=Histogram)

    def received(self, link: str, body: Message) -> None:
        """A message went to the core."""
        self.messages[link, RECEIVED, body.type] += 1

    def has_received(self, link: str) -> bool:
        """Whether any message came on a link so far."""
        return any(labels[:2] == (link, RECEIVED) for labels in self.messages)

    def sent(self, link: str, body: Message) -> None:
        """A message of the core went out; a refusal counts as one as well."""
        self.messages[link, SENT, body.type] += 1
        if isinstance(body, Refused):
            self.refuse(link, body.code)

    def refuse(self, link: str, code: RefusalCode) -> None:
        """A message of that link was not accepted."""
        self.refused[link, str(code)] += 1

    def families(self, dropped: Mapping[str, int], suppressed: int) -> list[Family]:
        """The metrics. `dropped` is by link what the sockets open now have dropped, `suppressed` counts log lines."""
        links = sorted({*self.dropped, *dropped})
        all_dropped: dict[tuple[str, ...], int] = {(link,): self.dropped[link] + dropped.get(link, 0) for link in links}
        return [
            labelled(
                MetricKind.COUNTER, "vasbus_messages_total", "messages of the bus by link, direction and type",
                ("link", "direction", "type"), self.messages,
            ),
            labelled(
                MetricKind.COUNTER, "vasbus_messages_refused_total", "messages that were refused, by refusal code",
                ("link", "code"), self.refused,
            ),
            labelled(
                MetricKind.COUNTER, "vasbus_messages_dropped_total",
                "messages for peers that take none, the oldest dropped at the high-water mark", ("link",), all_dropped,
            ),
            counter("vasbus_log_lines_suppressed_total", "log lines that storms of failures cost", suppressed),
            labelled(
                MetricKind.HISTOGRAM, "vasbus_turn_seconds", "turns of the process's loop, without their waits",
                (), {(): self.turns.picture()},
            ),
            labelled(
                MetricKind.HISTOGRAM, "vasbus_commit_seconds", "transactions of the ledger",
                (), {(): self.commits.picture()},
            ),
        ]  # fmt: skip
