"""Logs of every process: lines for people on a terminal, JSON otherwise, always with system, role and name.

Facts bear the same names in every process: `lpar`, `window` (its id), `epoch` (of the session).
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

SAME_NAMES = {"window_id": "window", "session_epoch": "epoch"}
"""Facts under the names of messages' fields, and what they are called in logs."""


class LineLogger:
    """Writes lines to a descriptor, at once. A line that cannot be written is gone, and counted in `lost`.

    A full disk or a reader that has gone away must not end a process that others live by.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.lost = 0

    def msg(self, line: str) -> None:
        """Write a line, or lose it."""
        try:
            os.write(self.descriptor, f"{line}\n".encode(errors="backslashreplace"))
        except OSError:
            self.lost += 1

    debug = info = warning = error = critical = msg


def configure_logs(system: str, role: str, name: str, stream: TextIO | None = None) -> None:
    """Set the process's logging up, once; `stream` is standard error unless another one is given."""
    stream = stream or sys.stderr
    logger = LineLogger(stream.fileno())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            use_same_names,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *renderers(is_terminal=stream.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    who = {"lpar": name} if role == "lpar" else {}
    structlog.contextvars.bind_contextvars(system=system, role=role, name=name, **who)


def renderers(*, is_terminal: bool) -> list[Processor]:
    """How a line becomes text: for people on a terminal, else as one JSON object."""
    if is_terminal:
        return [escape_controls, structlog.dev.ConsoleRenderer(pad_event_to=24)]
    return [structlog.processors.JSONRenderer(default=repr)]


def use_same_names(_logger: WrappedLogger, _method: str, facts: EventDict) -> EventDict:
    """Rename what SAME_NAMES lists, unless the fact is there under its name already."""
    for field, name in SAME_NAMES.items():
        if field in facts and name not in facts:
            facts[name] = facts.pop(field)
    return facts


def escape_controls(_logger: WrappedLogger, _method: str, facts: EventDict) -> EventDict:
    """Texts may come from a peer: its control characters are shown, not obeyed by the terminal."""
    for name, value in facts.items():
        if isinstance(value, str) and not value.isprintable():
            facts[name] = value.encode("unicode_escape").decode("ascii")
    return facts
