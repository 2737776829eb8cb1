"""Single keys from the terminal, without waiting for a line."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from types import TracebackType
from typing import Self


class Keys:
    """While the block lasts the terminal hands over each key at once; without one, `wait` only waits."""

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: list[object] | None = None

    def __enter__(self) -> Self:
        if self._descriptor is not None:
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None and self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    def wait(self, wait_s: float) -> str:
        """The next key within so many seconds, else nothing."""
        if self._descriptor is None:
            time.sleep(wait_s)
            return ""
        if not select.select([self._descriptor], [], [], wait_s)[0]:
            return ""
        return os.read(self._descriptor, 1).decode(errors="replace") or "q"
