"""Refusals to the console, in one shape."""

from __future__ import annotations

from protocol.console_messages import ConsoleFailure


def failure(code: str, text: str, advice: str) -> ConsoleFailure:
    """What was wrong and what to do."""
    return ConsoleFailure(code=code, text=text, advice=advice)


def insufficient(code: str, what: str, available: int, assigned: int, requested: int) -> ConsoleFailure:
    """The system has less than the increment asked for: the three numbers that the HMC gives."""
    available = max(0, available)
    text = f"not enough {what}: {available} available, {assigned} assigned, {requested} additional requested"
    return ConsoleFailure(
        code=code,
        text=text,
        available=available,
        assigned=assigned,
        requested=requested,
        advice=f"add at most {available} or free some elsewhere",
    )
