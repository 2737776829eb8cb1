"""The management console: asks the hypervisor for changes and watches what happens."""

from hmc.connection import Console, ConsoleRefused, ConsoleUnreachable, OutcomeUnknown

__all__ = ["Console", "ConsoleRefused", "ConsoleUnreachable", "OutcomeUnknown"]
