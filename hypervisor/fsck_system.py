"""A ledger beside a system file: what the hypervisor would find changed if it started with both. Pure.

A system file may change while the hypervisor is down, and partitions and units may go: that is allowed, and a remark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hypervisor.finding import Finding, remark
from hypervisor.ledger import Ledger
from hypervisor.row_meaning import label
from hypervisor.rows import LedgerWindowRow, PartitionRow, Row, SessionRow
from protocol.codes import CreditType
from protocol.effects import Effects
from protocol.link import HCALL
from protocol.system import HUNDREDTHS_PER_CORE, SystemSettings


def compare(system: SystemSettings, rows: Sequence[Row]) -> list[Finding]:
    """What the system file and the rows, which have to make sense, say differently of the same system."""
    ledger = Ledger(system, Effects())
    ledger.restore(list(rows))
    return [*_names(system, rows), *_slots(system, rows), *_targets(ledger), *_units(ledger), *_totals(ledger)]


def _names(system: SystemSettings, rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        if isinstance(row, PartitionRow) and system.lpar_named(row.name) is None:
            yield remark(label(row), "the system file has no such partition: its windows are closed")
        elif isinstance(row, LedgerWindowRow) and system.chip_of_unit(row.unit) is None:
            yield remark(label(row), f"the system file has no NX unit {row.unit}: its window is gone with it")


def _slots(system: SystemSettings, rows: Sequence[Row]) -> Iterator[Finding]:
    """Free slots that have another meaning in the file, and what is given back at the next start."""
    slots = set(system.slot_names)
    alive = {row.name for row in rows if isinstance(row, SessionRow) and row.alive and row.link == HCALL.name}
    for row in rows:
        if not isinstance(row, PartitionRow) or system.lpar_named(row.name) is None:
            continue
        has_any = bool(row.cores or row.hundredths)
        if row.name not in slots and not has_any:
            yield remark(label(row), "it was a free slot; the system file names it: it gets what the file says")
        if row.name in slots and has_any and row.name not in alive:
            yield remark(label(row), "a slot without a session has processors: they go back to the system at its start")


def _targets(ledger: Ledger) -> Iterator[Finding]:
    for partition in ledger.partitions.values():
        for credit_type in CreditType:
            in_use, target = ledger.in_use(partition.name, credit_type), ledger.target(partition, credit_type)
            if in_use > target:
                name = credit_type.name.lower()
                text = f"{in_use} {name} windows, {target} credits assigned: its kernel is to close {in_use - target}"
                yield remark(f"partition {partition.name}", text)


def _units(ledger: Ledger) -> Iterator[Finding]:
    on_unit = Counter(window.unit for window in ledger.windows.values())
    limit = ledger.system.limits.windows_per_unit
    for unit, count in sorted(on_unit.items()):
        if count > limit:
            yield remark(f"NX unit {unit}", f"it has {count} windows; the system file allows {limit}")


def _totals(ledger: Ledger) -> Iterator[Finding]:
    system = ledger.system
    free = ledger.free_hundredths()
    if free < 0:
        have = system.cores_total * HUNDREDTHS_PER_CORE
        text = f"the partitions have {have - free} hundredths of a processor, the chips {have}"
        yield remark("processors", f"{text}: none can be added before some are removed")
    qos = sum(partition.qos_credits for partition in ledger.partitions.values())
    if qos > system.qos_credits:
        text = f"the partitions have {qos} QoS credits, the system {system.qos_credits}"
        yield remark("QoS credits", f"{text}: none can be given before some are taken back")
