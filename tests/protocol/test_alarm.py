"""Signals end the loop's wait, whichever thread of the process they reach."""

from __future__ import annotations

import select
import signal
import threading
from collections.abc import Iterator

import pytest

from protocol.alarm import Alarm

WAIT_MS = 5_000


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm()
    alarm.catch_signals()
    yield alarm
    alarm.release_signals()
    alarm.close()


def test_a_signal_that_another_thread_takes_ends_the_wait(alarm: Alarm) -> None:
    """The main thread's wait is not interrupted then, and Python counts the stop only when that has ended."""
    waiting = select.poll()
    waiting.register(alarm.fileno(), select.POLLIN)
    ask = threading.Event()

    def take() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        ask.wait(WAIT_MS / 1000)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    taker = threading.Thread(target=take)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        taker.start()
        ask.set()
        assert waiting.poll(WAIT_MS), "nobody rang"
        taker.join()
        assert alarm.stops == 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_what_heard_signals_before_hears_them_again_afterwards() -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    alarm = Alarm()
    alarm.catch_signals()
    assert signal.getsignal(signal.SIGTERM) != handlers[0]
    alarm.release_signals()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    former = signal.set_wakeup_fd(-1)
    assert former == -1
    alarm.close()
