"""Whether the system can give what a change asks; a refusal names available, assigned and requested. Pure."""

from __future__ import annotations

from hypervisor.change import Change
from hypervisor.ledger import Ledger, Partition
from hypervisor.refusal import failure, free_slot, insufficient, insufficient_qos, no_accelerators, no_dynamic_qos
from protocol.codes import CREDIT_MAX
from protocol.console_messages import ConsoleFailure
from protocol.hcall_messages import ConfigurationKind
from protocol.system import HUNDREDTHS_PER_CORE, MINIMUM_HUNDREDTHS, ProcessorMode


def check(
    ledger: Ledger, partition: Partition, change: Change, qos_free: int, *, running: bool
) -> ConsoleFailure | None:
    """The refusal of a change, or None. Lowering is possible even where the system has less than it has given.

    `running`: whether the partition's kernel has a session, which QoS credits and migrations have to go through.
    """
    if partition.name in ledger.slot_names and not running:
        return free_slot(partition.name)
    if change.kind is ConfigurationKind.MIGRATION:
        return _check_migration(partition, change, running=running)
    if change.kind is ConfigurationKind.QOS:
        return _check_qos(ledger, partition, change.amount, qos_free, running=running)
    wanted = ProcessorMode.DEDICATED if change.kind is ConfigurationKind.CPU else ProcessorMode.SHARED
    if partition.mode is not wanted:
        command = "hmc entitlement" if wanted is ProcessorMode.DEDICATED else "hmc dlpar"
        return failure("wrong_mode", f"{partition.name} has {partition.mode} processors", f"use `vasbus {command}`")
    if wanted is ProcessorMode.DEDICATED:
        return _check_cores(partition, change.amount, ledger.free_hundredths() // HUNDREDTHS_PER_CORE)
    return _check_hundredths(partition, change.amount, ledger.free_hundredths())


def _check_migration(partition: Partition, change: Change, *, running: bool) -> ConsoleFailure | None:
    """What is not running has no windows to close and nothing to suspend."""
    if not running:
        text = f"{partition.name} is not running; only a running partition is migrated"
        return failure("not_running", text, "start it first")
    if change.amount > change.wait_ms:
        text = f"a hold of {change.amount} ms does not end within the wait of {change.wait_ms} ms"
        return failure("bad_amount", text, "ask for a shorter hold or a longer wait")
    return None


def _check_qos(
    ledger: Ledger, partition: Partition, credits: int, available: int, *, running: bool
) -> ConsoleFailure | None:
    """In the HMC's order: the system can, the operating system can, the credits are there. Source: domain.md 6."""
    if not 0 <= credits <= CREDIT_MAX:
        return failure("bad_amount", f"QoS credits are 0 to {CREDIT_MAX}, came {credits}", "ask within that range")
    if not ledger.system.accelerators:
        return no_accelerators()
    settings = ledger.system.lpar_named(partition.name)
    if running and settings is not None and not settings.dynamic_qos:
        return no_dynamic_qos(partition.name)
    extra = credits - partition.qos_credits
    if extra > max(0, available):
        return insufficient_qos(available, partition.qos_credits, extra)
    return None


def _check_cores(partition: Partition, delta: int, available: int) -> ConsoleFailure | None:
    if not delta:
        return failure("bad_amount", "0 cores change nothing", "ask for +1 or more, or -1 or less")
    if partition.cores + delta < 1:
        plural = "" if partition.cores == 1 else "s"
        text = f"{partition.name} has {partition.cores} core{plural} and keeps at least 1, came {delta:+d}"
        return failure("too_few_processors", text, "remove fewer")
    if delta > max(0, available):
        return insufficient("no_processors", "cores", available, partition.cores, delta)
    return None


def _check_hundredths(partition: Partition, hundredths: int, available: int) -> ConsoleFailure | None:
    if hundredths < MINIMUM_HUNDREDTHS:
        text = f"a shared partition has {MINIMUM_HUNDREDTHS} hundredths or more, came {hundredths}"
        return failure("too_few_processors", text, "ask for more")
    extra = hundredths - partition.hundredths
    if extra > max(0, available):
        return insufficient("no_processors", "hundredths", available, partition.hundredths, extra)
    return None
