"""The management console: asks the hypervisor for changes and watches what happens."""

from hmc.connection import Console, ConsoleClosed, ConsoleRefused, ConsoleUnreachable, OutcomeUnknown

__all__ = ["Console", "ConsoleClosed", "ConsoleRefused", "ConsoleUnreachable", "OutcomeUnknown"]
