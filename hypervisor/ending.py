"""What the console is told of a change that did not end well. Pure."""

from __future__ import annotations

from hypervisor.change import Change, ChangeState
from hypervisor.refusal import failure, free_slot
from protocol.console_messages import ConsoleFailure
from protocol.hcall_messages import ConfigurationKind

ERROR_LIMIT = 500
"""Characters of a partition's error that are passed on."""


def refused(change: Change, error: str) -> ConsoleFailure:
    """The kernel reported that it could not carry the change out."""
    why = error[:ERROR_LIMIT] or "no reason given"
    if change.kind is ConfigurationKind.MIGRATION:
        advice = "its windows are reopened where it is; see the log of the partition"
        return failure("not_migrated", f"{change.lpar} was not migrated: {why}", advice)
    outcome = "the pool is as it was" if change.kind is ConfigurationKind.QOS else "the change stands"
    text = f"the operating system of {change.lpar} refused: {why}"
    return failure("os_refused", text, f"{outcome}; see the log of the partition")


def expired(change: Change) -> ConsoleFailure:
    """The change's wait ran out, in the queue or while it was with the kernel."""
    if change.state is ChangeState.QUEUED:
        text = f"an earlier change of {change.lpar} was still under way after {change.wait_ms} ms"
        return failure("timeout", text, "nothing was changed; try again")
    text = f"{change.lpar} did not acknowledge generation {change.generation} within {change.wait_ms} ms"
    if change.state is ChangeState.MOVED:
        return failure("timeout", text, "it was moved, and has not said that its windows are open again; see its log")
    if change.kind is ConfigurationKind.MIGRATION:
        return failure("timeout", text, "the migration is given up; the partition reopens its windows where it is")
    if change.kind is ConfigurationKind.QOS:
        return failure("timeout", text, "the pool is unchanged; it follows if the partition accepts after all")
    return failure("timeout", text, "the change stands; the partition applies it when it hears of it")


def died(change: Change, *, is_slot: bool) -> ConsoleFailure | None:
    """The partition went down while a change was with its kernel; None where the change stands.

    A migration that had not moved it is over, and what a slot got goes with its session.
    """
    if change.kind is ConfigurationKind.MIGRATION:
        if change.state is ChangeState.MOVED:
            return None
        text = f"{change.lpar} went down before it was moved"
        return failure("not_migrated", text, "its windows are gone; start it and try again")
    return free_slot(change.lpar) if is_slot else None
