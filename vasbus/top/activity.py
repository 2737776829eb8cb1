"""What has been going on: hcalls per second by code, and the latest changes and faults. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from protocol.clock import SECOND_US
from protocol.codes import HcallCode
from protocol.message import Message
from protocol.telemetry_messages import ConfigurationMoved, FaultMoved, HcallMade, PeerMoved

HISTORY_S = 60
RATE_S = 5
"""Rates are means over this many whole seconds."""
NEWS_LIMIT = 100
FINAL_STEPS = ("acknowledged", "refused", "expired", "died")


@dataclass(slots=True)
class Second:
    """The hcalls of one second: by name and code, and by partition."""

    number: int
    by_code: Counter[tuple[str, HcallCode]] = field(default_factory=Counter)
    by_lpar: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class News:
    """Something worth a line. A configuration change and a fault keep their line as they go on."""

    began_us: int
    heard_us: int
    kind: str
    subject: str
    text: str
    steps: list[str]
    elapsed_us: int = 0
    first_at_us: int = 0

    @property
    def step(self) -> str:
        return self.steps[-1] if self.steps else ""


@dataclass(slots=True)
class Activity:
    """Counts by the observer's clock; `now_us` rises."""

    began_us: int
    seconds: deque[Second] = field(default_factory=lambda: deque(maxlen=HISTORY_S + 1))
    totals: Counter[tuple[str, HcallCode]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    news: deque[News] = field(default_factory=lambda: deque(maxlen=NEWS_LIMIT))
    _open: dict[tuple[str, str, int], News] = field(default_factory=dict)

    def hear(self, message: Message, now_us: int) -> None:
        """A new message of the stream."""
        match message:
            case HcallMade():
                second = self._second(now_us)
                second.by_code[message.hcall, message.code] += 1
                second.by_lpar[message.lpar] += 1
                self.totals[message.hcall, message.code] += 1
            case ConfigurationMoved():
                self._configuration(message, now_us)
            case FaultMoved():
                self.faults[message.step] += 1
                key = ("fault", message.lpar, message.number)
                text = f"window {message.window_id}: {message.operand.name.lower()} page {message.fault_address:#x}"
                self._goes_on(key, message.at_us, text, message.step, now_us)
            case PeerMoved():
                text = f"session {message.epoch} of the {message.role}"
                self._add(News(now_us, now_us, "peer", message.name, text, [message.step], 0, message.at_us))
            case _:
                pass

    def rates(self, now_us: int) -> dict[tuple[str, HcallCode], float]:
        """hcalls per second over the last whole seconds."""
        recent: Counter[tuple[str, HcallCode]] = Counter()
        for second in self._recent(now_us, RATE_S):
            recent.update(second.by_code)
        return {key: count / self._span(now_us) for key, count in recent.items()}

    def lpar_rates(self, now_us: int) -> dict[str, float]:
        """hcalls per second by partition."""
        recent: Counter[str] = Counter()
        for second in self._recent(now_us, RATE_S):
            recent.update(second.by_lpar)
        return {name: count / self._span(now_us) for name, count in recent.items()}

    def history(self, now_us: int, hcall: str | None = None, lpar: str | None = None) -> list[int]:
        """hcalls in each of the last whole seconds, oldest first: all, or those of a name or a partition."""
        here = now_us // SECOND_US
        counts = [0] * HISTORY_S
        for second in self.seconds:
            place = HISTORY_S - (here - second.number)
            if 0 <= place < HISTORY_S:
                if lpar is not None:
                    counts[place] = second.by_lpar[lpar]
                else:
                    counts[place] = sum(n for (name, _code), n in second.by_code.items() if hcall in (None, name))
        return counts

    def _recent(self, now_us: int, span_s: int) -> list[Second]:
        here = now_us // SECOND_US
        return [second for second in self.seconds if here - span_s <= second.number < here]

    def _span(self, now_us: int) -> int:
        """Whole seconds that have been observed, of those a rate is made of."""
        return max(1, min(RATE_S, now_us // SECOND_US - self.began_us // SECOND_US))

    def _second(self, now_us: int) -> Second:
        number = now_us // SECOND_US
        if not self.seconds or self.seconds[-1].number < number:
            self.seconds.append(Second(number))
        return self.seconds[-1]

    def _configuration(self, message: ConfigurationMoved, now_us: int) -> None:
        """A change gets its generation when it is begun; until then it is the partition's next in the queue."""
        key = ("configuration", message.lpar, message.generation)
        text = f"{message.kind} change, {message.detail}"
        if message.step == "applied":
            waiting = [news for news in self.news if (news.subject, news.text) == (message.lpar, text)]
            queued = next((news for news in waiting if news.steps == ["queued"]), None)
            if queued is not None:
                self._open[key] = queued
        elif message.step == "queued":
            self._open.pop(key, None)
        news = self._goes_on(key, message.at_us, text, message.step, now_us)
        if message.step == "applied":
            news.text = f"{text}, generation {message.generation}"

    def _goes_on(self, key: tuple[str, str, int], at_us: int, text: str, step: str, now_us: int) -> News:
        news = self._open.get(key)
        if news is None or news not in self.news or news.first_at_us > at_us:
            news = News(now_us, now_us, key[0], key[1], text, [], 0, at_us)
            self._add(news)
            self._open[key] = news
            if len(self._open) > NEWS_LIMIT:
                self._open = {known: item for known, item in self._open.items() if item in self.news}
        news.heard_us, news.elapsed_us = now_us, max(0, at_us - news.first_at_us)
        news.steps.append(step)
        return news

    def _add(self, news: News) -> None:
        self.news.append(news)
