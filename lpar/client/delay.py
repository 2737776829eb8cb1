"""How long jobs take on average, by which libnxz decides between the accelerator and software. Pure."""

from __future__ import annotations

from dataclasses import dataclass

TICKS_PER_US = 512
"""The timebase runs at 512 MHz; libnxz's numbers are in its ticks."""
COMPRESS_DELAY_TICKS = 100_000_000
DECOMPRESS_DELAY_TICKS = 17_000_000
"""Above these averages (195 ms, 33 ms) a new stream in mode auto stays in software."""
SAMPLE_MOST_US = 1_000_000
SAMPLE_LEAST_NS = 100
"""A sample outside of 0.1 us to 1 s says nothing about the accelerator."""


@dataclass(slots=True)
class DelayAverage:
    """The running average of one direction, in ticks."""

    threshold_ticks: int
    average_ticks: int = 0

    def observe(self, duration_us: int) -> None:
        """A job took so long: (new + 4 * average) / 5."""
        if duration_us * 1000 >= SAMPLE_LEAST_NS and duration_us <= SAMPLE_MOST_US:
            self.average_ticks = (duration_us * TICKS_PER_US + 4 * self.average_ticks) // 5

    def used_software(self) -> None:
        """A stream went to software: a quarter off, so that the accelerator is tried again in the end."""
        self.average_ticks -= self.average_ticks // 4

    @property
    def is_too_long(self) -> bool:
        """Whether the next stream had better stay in software."""
        return self.average_ticks > self.threshold_ticks
