"""The clock by which servers count leases and fences."""

from __future__ import annotations

import sys
import time

import pytest

from protocol.node import monotonic_us


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has CLOCK_BOOTTIME")
def test_servers_count_the_time_in_which_their_machine_was_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that wakes up after its fence must know: others have counted on, and given its credits away."""
    clocks = {time.CLOCK_BOOTTIME: 7_000_000_000, time.CLOCK_MONOTONIC: 1_000_000_000}
    monkeypatch.setattr(time, "clock_gettime_ns", clocks.__getitem__)
    monkeypatch.setattr(time, "monotonic_ns", lambda: clocks[time.CLOCK_MONOTONIC])
    assert monotonic_us() == 7_000_000
