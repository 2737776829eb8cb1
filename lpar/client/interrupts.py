"""A lock whose holder is not interrupted half-way: Ctrl-C waits until the core's state is whole again."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Guard:
    """`with guard:` excludes other threads. In the main thread a SIGINT within raises KeyboardInterrupt at its end.

    A handler of the program's own is left alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deferring = False
        self._interrupted = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread() and not self._deferring:
            self._defer()
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        if self._deferring and threading.current_thread() is threading.main_thread():
            self._deferring = False
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self._interrupted:
                raise KeyboardInterrupt

    def _defer(self) -> None:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._interrupted = False
            signal.signal(signal.SIGINT, self._note)
            self._deferring = True

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupted = True
