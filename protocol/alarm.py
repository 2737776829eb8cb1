"""What ends the node loop's wait beside its sockets: signals, and threads that want something from the loop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import FrameType

from protocol.metrics import Family

Handler = Callable[[int, FrameType | None], object] | int | None
"""What Python's signal module takes and returns as a handler."""


class NoSnapshot(Exception):
    """The loop did not answer: it is busy, paused or ending."""


class Alarm:
    """A pipe that a poller can wait for. `stops` counts the signals that asked the process to end.

    `has_caught`: whether any alarm of this process has caught signals yet, that is, whether it has begun its work.
    """

    has_caught = False

    def __init__(self) -> None:
        self.stops = 0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._before: dict[signal.Signals, Handler] = {}
        self._wakeup_before = -1

    def fileno(self) -> int:
        """What to wait for."""
        return self._read

    def ring(self) -> None:
        """End the wait; a full pipe rings already."""
        try:
            os.write(self._write, b"!")
        except BlockingIOError:
            return

    def hush(self) -> None:
        """Heard: the next wait waits again."""
        os.read(self._read, 64)

    def catch_signals(self) -> None:
        """Count SIGTERM and SIGINT as stops from now on. A thread other than the main one does not hear them.

        Python runs its handlers in the main thread when that is next in bytecode. A signal that reaches another thread,
        or this one just before it begins to wait, would be heard at the end of the wait; so the pipe rings at once.
        """

        def stop(_number: int, _frame: FrameType | None) -> None:
            self.stops += 1
            self.ring()

        if threading.current_thread() is threading.main_thread():
            Alarm.has_caught = True
            self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}

    def release_signals(self) -> None:
        """Put back the handlers that there were before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            signal.set_wakeup_fd(self._wakeup_before, warn_on_full_buffer=False)
        self._before = {}

    def ignore_signals(self) -> None:
        """The process is ending as it was asked to: one more signal changes nothing, neither its exit code."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        if self._before:
            signal.set_wakeup_fd(self._wakeup_before, warn_on_full_buffer=False)
        self._before = {}

    def close(self) -> None:
        """Close the pipe; nobody may ring afterwards."""
        os.close(self._read)
        os.close(self._write)


class Snapshots:
    """Hands what the loop's thread counts to other threads. Those never look at the core themselves."""

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._lock = threading.Lock()
        self._wanted: list[Future[Sequence[Family]]] = []
        self._closed = False

    def ask(self, deadline_s: float) -> Sequence[Family]:
        """From another thread: the metrics of this moment. Raises NoSnapshot where none comes within the deadline."""
        future: Future[Sequence[Family]] = Future()
        with self._lock:
            if self._closed:
                raise NoSnapshot("the process is ending")
            self._wanted.append(future)
            self._alarm.ring()
        try:
            return future.result(deadline_s)
        except FutureTimeout:
            raise NoSnapshot(f"the process's loop did not answer within {deadline_s:g} s") from None
        finally:
            with self._lock:
                if future in self._wanted:
                    self._wanted.remove(future)

    def serve(self, take: Callable[[], Sequence[Family]]) -> Exception | None:
        """In the loop's thread: answer whoever asks, with one snapshot for all of them.

        What `take` raises is returned and told to whoever asked: asking must not end the process.
        """
        if not self._wanted:
            return None
        with self._lock:
            wanted, self._wanted = self._wanted, []
        try:
            snapshot = take()
        except Exception as error:
            for future in wanted:
                future.set_exception(NoSnapshot(f"the metrics could not be taken: {error!r}"))
            return error
        for future in wanted:
            future.set_result(snapshot)
        return None

    def close(self) -> None:
        """In the loop's thread: whoever asks from now on, or waits, gets nothing."""
        with self._lock:
            self._closed = True
            wanted, self._wanted = self._wanted, []
        for future in wanted:
            future.set_exception(NoSnapshot("the process is ending"))
