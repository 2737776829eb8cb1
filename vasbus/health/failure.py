"""Why a process is not healthy."""

from __future__ import annotations


class Unhealthy(Exception):
    """The text says why, in one line. `silent`: nobody answered before the deadline."""

    def __init__(self, text: str, *, silent: bool = False) -> None:
        super().__init__(text)
        self.silent = silent


class NotReady(Unhealthy):
    """It answers, and puts off whatever it is asked, with this refusal's code."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code
