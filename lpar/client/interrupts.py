"""Ctrl-C waits until the core's state is whole again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Interrupts:
    """Within `with interrupts:` SIGINT does not raise KeyboardInterrupt in the middle of things.

    It is noted, `rouse` is called (from the handler: it may do no more than write to a pipe), and `check`, the end of
    the block or `allowed` raise it. Only the main thread hears signals; in others all of this does nothing. A handler
    of the program's own is left alone.
    """

    def __init__(self, rouse: Callable[[], None]) -> None:
        self._rouse = rouse
        self._deferring = False
        self._noted = False

    def __enter__(self) -> None:
        if _is_main() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._defer()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _is_main() and self._deferring:
            self._stop_deferring()
            self.check()

    def check(self) -> None:
        """Raise KeyboardInterrupt if one was held back."""
        if self._noted and _is_main():
            self._noted = False
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """An interrupt may come here, at once: nothing of the core is in the making."""
        if not (_is_main() and self._deferring):
            yield
            return
        self._stop_deferring()
        try:
            self.check()
            yield
        finally:
            self._defer()

    def _defer(self) -> None:
        signal.signal(signal.SIGINT, self._note)
        self._deferring = True

    def _stop_deferring(self) -> None:
        self._deferring = False
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._noted = True
        self._rouse()


def _is_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident
