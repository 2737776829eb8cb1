"""What a process counts, as plain values: the shell turns them into whatever a monitoring system reads. Pure.

Times are observed in microseconds and shown in seconds, as the names of the families say.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LATENCY_BOUNDS_US = (
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
    30_000_000,
)  # fmt: skip
MICROSECONDS_PER_SECOND = 1_000_000


class MetricKind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram's state: `counts[i]` observations of at most `bounds_us[i]`, the last of `counts` are above all."""

    bounds_us: tuple[int, ...]
    counts: tuple[int, ...]
    sum_us: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a family; `labels` are in the order of the family's `label_names`."""

    labels: tuple[str, ...]
    value: float | Distribution


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its values. Names are `vasbus_<noun>_<unit>`; counters end in `_total`."""

    name: str
    kind: MetricKind
    meaning: str
    label_names: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()


def counter(name: str, meaning: str, value: float) -> Family:
    """A single count that only rises."""
    return Family(name, MetricKind.COUNTER, meaning, (), (Sample((), value),))


def gauge(name: str, meaning: str, value: float) -> Family:
    """A single value of this moment."""
    return Family(name, MetricKind.GAUGE, meaning, (), (Sample((), value),))


def labelled(
    kind: MetricKind,
    name: str,
    meaning: str,
    label_names: Iterable[str],
    values: Mapping[tuple[str, ...], float | Distribution],
) -> Family:
    """A family with one value for each combination of labels."""
    samples = tuple(Sample(labels, value) for labels, value in sorted(values.items(), key=lambda item: item[0]))
    return Family(name, kind, meaning, tuple(label_names), samples)


@dataclass(slots=True)
class Histogram:
    """A running distribution of durations."""

    bounds_us: tuple[int, ...] = LATENCY_BOUNDS_US
    counts: list[int] = field(default_factory=list)
    sum_us: int = 0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds_us) + 1)

    def observe(self, duration_us: int) -> None:
        """Count one duration; a negative one, from a clock that is not ours, counts as 0."""
        duration_us = max(0, duration_us)
        self.counts[bisect_left(self.bounds_us, duration_us)] += 1
        self.sum_us += duration_us

    def picture(self) -> Distribution:
        """The distribution so far, frozen."""
        return Distribution(self.bounds_us, tuple(self.counts), self.sum_us)
