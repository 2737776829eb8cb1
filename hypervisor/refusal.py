"""Refusals to the console, in one shape."""

from __future__ import annotations

from protocol.console_messages import ConsoleFailure


def failure(code: str, text: str, advice: str) -> ConsoleFailure:
    """What was wrong and what to do."""
    return ConsoleFailure(code=code, text=text, advice=advice)


def free_slot(lpar: str) -> ConsoleFailure:
    """Nobody has claimed it, so that it has nothing that could be changed."""
    return failure("free_slot", f"{lpar} is a free slot", "start a process that claims it (`vasbus serve slot`)")


def no_accelerators() -> ConsoleFailure:
    """HSCLC014."""
    text = "the system has no hardware accelerators that partitions can use"
    return failure("HSCLC014", text, "QoS credits exist where the system file says `accelerators = true`")


def no_dynamic_qos(lpar: str) -> ConsoleFailure:
    """HSCLC102."""
    text = f"the operating system of {lpar} does not take GZIP QoS credits while it runs"
    return failure("HSCLC102", text, "stop the partition, set them, and start it again")


def insufficient_qos(available: int, assigned: int, requested: int) -> ConsoleFailure:
    """HSCLC016, with the HMC's names of its numbers; what is checked is the increment. Source: domain.md 6."""
    available = max(0, available)
    text = (
        f"not enough GZIP QoS credits: available system QoS {available}, assigned partition QoS {assigned}, "
        f"additional requested partition QoS {requested}"
    )
    return _insufficient("HSCLC016", text, available, assigned, requested)


def insufficient(code: str, what: str, available: int, assigned: int, requested: int) -> ConsoleFailure:
    """The system has less than the increment asked for."""
    available = max(0, available)
    text = f"not enough {what}: {available} available, {assigned} assigned, {requested} additional requested"
    return _insufficient(code, text, available, assigned, requested)


def _insufficient(code: str, text: str, available: int, assigned: int, requested: int) -> ConsoleFailure:
    return ConsoleFailure(
        code=code,
        text=text,
        available=available,
        assigned=assigned,
        requested=requested,
        advice=f"add at most {available} or free some elsewhere",
    )
