"""When a process that has never been let in ends, on a virtual clock."""

from __future__ import annotations

import pytest

from protocol.clock import SECOND_US
from protocol.codes import ExitCode
from protocol.shut_out import BROKEN_OFF_US, GAP_US, ShutOut

WHY = "tcp://hv:7101 breaks off every handshake"
EVERY_US = SECOND_US


def heard(shut_out: ShutOut, began_us: int, until_us: int) -> None:
    """A report each second, the last one at `until_us`."""
    for moment_us in range(began_us, until_us + 1, EVERY_US):
        shut_out.hear(WHY, moment_us, definite=False)


def test_handshakes_that_are_broken_off_end_the_process_after_half_a_minute_and_not_before() -> None:
    shut_out = ShutOut()
    heard(shut_out, 7, BROKEN_OFF_US - 1)
    assert shut_out.ending is None
    shut_out.hear(WHY, BROKEN_OFF_US + 7, definite=False)
    assert shut_out.ending is not None
    assert shut_out.ending.code is ExitCode.REFUSED
    assert WHY in shut_out.ending.reason
    assert "30 s" in shut_out.ending.reason


@pytest.mark.parametrize(("gap_us", "ends"), [(GAP_US, True), (GAP_US + 1, False)])
def test_a_time_without_handshakes_begins_the_count_anew(gap_us: int, ends: bool) -> None:
    shut_out = ShutOut()
    heard(shut_out, 0, BROKEN_OFF_US - EVERY_US)
    shut_out.hear(WHY, BROKEN_OFF_US - EVERY_US + gap_us, definite=False)
    assert (shut_out.ending is not None) == ends


def test_what_the_listener_says_itself_ends_the_process_at_once() -> None:
    shut_out = ShutOut()
    shut_out.hear("it does not take the key", 0, definite=True)
    assert shut_out.ending is not None
    assert (shut_out.ending.code, shut_out.ending.reason) == (ExitCode.REFUSED, "it does not take the key")
