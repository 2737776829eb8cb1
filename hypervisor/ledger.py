"""The ledger: partitions, windows and what they have in use. Pure; every change is also a row to be stored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from hypervisor.entitlement import default_target, entitled_credits
from hypervisor.rows import CounterRow, Drop, LedgerWindowRow, PartitionRow, Put
from protocol.codes import CreditType
from protocol.effects import Effects
from protocol.system import HUNDREDTHS_PER_CORE, LparSettings, ProcessorMode, SystemSettings
from protocol.telemetry_messages import CreditsChanged


class WindowPhase(StrEnum):
    """Where a window of the table stands. Its credit is in use in every phase."""

    RESERVED = "reserved"
    PROGRAMMING = "programming"
    OPEN = "open"
    CLOSING = "closing"
    QUIESCED = "quiesced"


@dataclass(slots=True)
class Window:
    """One row of the window table. `fenced`: its partition is gone, so nobody will ask for its deallocation.

    `process_id` is the process that the kernel wants, `bound_to` that of the context which the unit is known to hold
    (0: none known; the unit itself says so after a restart, so it is not stored).
    """

    window_id: int
    lpar: str
    epoch: int
    credit_type: CreditType
    unit: str
    token: bytes
    phase: WindowPhase = WindowPhase.RESERVED
    process_id: int = 0
    fenced: bool = False
    bound_to: int = 0

    @property
    def has_no_context(self) -> bool:
        """Whether no unit can hold a context of this window: it was never bound, or its close is confirmed."""
        never_bound = self.phase is WindowPhase.RESERVED and self.process_id == 0
        return never_bound or self.phase is WindowPhase.QUIESCED

    def row(self) -> LedgerWindowRow:
        return LedgerWindowRow(
            self.window_id, self.lpar, self.epoch, int(self.credit_type), self.unit, str(self.phase), self.token,
            self.process_id, int(self.fenced),
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: LedgerWindowRow) -> Window:
        return cls(
            row.window_id, row.lpar, row.epoch, CreditType(row.credit_type), row.unit, row.token,
            WindowPhase(row.state), row.process_id, bool(row.fenced),
        )  # fmt: skip


@dataclass(slots=True)
class Partition:
    """One LPAR's configuration. `generation` counts its changes, `acknowledged` those its kernel has applied.

    `held`: a test aid, changes are kept from the kernel. A free slot is one without processors.
    """

    name: str
    mode: ProcessorMode
    cores: int
    hundredths: int
    qos_credits: int
    home_chip: int
    generation: int = 0
    acknowledged: int = 0
    held: bool = False

    @property
    def capacity_hundredths(self) -> int:
        return self.cores * HUNDREDTHS_PER_CORE + self.hundredths

    @property
    def is_free_slot(self) -> bool:
        return not self.capacity_hundredths

    def row(self) -> PartitionRow:
        return PartitionRow(
            self.name, str(self.mode), self.cores, self.hundredths, self.qos_credits, self.home_chip,
            self.generation, self.acknowledged, int(self.held),
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: PartitionRow) -> Partition:
        return cls(
            row.name, ProcessorMode(row.mode), row.cores, row.hundredths, row.qos_credits, row.home_chip,
            row.generation, row.acknowledged, bool(row.held),
        )  # fmt: skip

    @classmethod
    def from_settings(cls, lpar: LparSettings) -> Partition:
        return cls(lpar.name, lpar.mode, lpar.cores, lpar.hundredths, lpar.qos_credits, lpar.home_chip)

    @classmethod
    def free_slot(cls, lpar: LparSettings) -> Partition:
        return cls(lpar.name, lpar.mode, 0, 0, 0, lpar.home_chip)


@dataclass(slots=True)
class Ledger:
    """Who may hold how many windows, and who holds which."""

    system: SystemSettings
    effects: Effects
    partitions: dict[str, Partition] = field(default_factory=dict)
    windows: dict[int, Window] = field(default_factory=dict)
    next_window_id: int = 1
    slot_names: frozenset[str] = frozenset()
    _in_use: Counter[tuple[str, CreditType]] = field(default_factory=Counter)
    _on_unit: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.slot_names = frozenset(self.system.slot_names)

    def restore(self, rows: list[object]) -> None:
        """Take over what an earlier process stored; the file's partitions fill in what is new.

        A named partition that was a free slot before the file was changed is new.
        """
        known_names = {settings.name for settings in self.system.partitions}
        for row in rows:
            if isinstance(row, PartitionRow) and row.name in known_names:
                self.partitions[row.name] = Partition.from_row(row)
            elif isinstance(row, LedgerWindowRow):
                self._count(Window.from_row(row))
            elif isinstance(row, CounterRow) and row.name == "window_id":
                self.next_window_id = row.value
        for settings in self.system.partitions:
            known = self.partitions.get(settings.name)
            is_slot = settings.name in self.slot_names
            if known is None or (known.is_free_slot and not is_slot):
                fresh = Partition.free_slot(settings) if is_slot else Partition.from_settings(settings)
                fresh.generation = fresh.acknowledged = 0 if known is None else known.generation
                self.partitions[settings.name] = fresh
                self.store_partition(fresh)

    @property
    def present(self) -> list[Partition]:
        """Every partition but the free slots."""
        return [partition for partition in self.partitions.values() if not partition.is_free_slot]

    @property
    def named(self) -> list[str]:
        """The partitions that are no slots."""
        return [name for name in self.partitions if name not in self.slot_names]

    def entitled(self, partition: Partition) -> int:
        """Default credits that the partition's processors are worth, before QoS is taken off."""
        return entitled_credits(partition.cores, partition.hundredths, self.system.credits_per_core)

    def target(self, partition: Partition, credit_type: CreditType) -> int:
        """Credits assigned to the partition now (target_lpar_creds); none in a system without accelerators."""
        if not self.system.accelerators:
            return 0
        if credit_type is CreditType.QOS:
            return partition.qos_credits
        return default_target(self.entitled(partition), partition.qos_credits, self.system.qos_reduces_default)

    def in_use(self, lpar: str, credit_type: CreditType) -> int:
        """Windows of that type in the table, those being drained included."""
        return self._in_use[lpar, credit_type]

    def on_unit(self, unit: str) -> int:
        return self._on_unit[unit]

    def free_hundredths(self) -> int:
        """Processor capacity that no partition has."""
        taken = sum(partition.capacity_hundredths for partition in self.partitions.values())
        return self.system.cores_total * HUNDREDTHS_PER_CORE - taken

    def reserve(self, lpar: str, epoch: int, credit_type: CreditType, unit: str, token: bytes, now_us: int) -> Window:
        """Put a new window in the table: its credit is in use from here on. Ids are never used again."""
        window = Window(self.next_window_id, lpar, epoch, credit_type, unit, token)
        self.next_window_id += 1
        self.effects.writes.append(Put(CounterRow("window_id", self.next_window_id)))
        self._count(window)
        self.store_window(window)
        self.publish_credits(lpar, credit_type, now_us)
        return window

    def free(self, window: Window, now_us: int) -> None:
        """Take a window out of the table: its credit is free again."""
        del self.windows[window.window_id]
        self._in_use[window.lpar, window.credit_type] -= 1
        self._on_unit[window.unit] -= 1
        self.effects.writes.append(Drop(LedgerWindowRow, (window.window_id,)))
        self.publish_credits(window.lpar, window.credit_type, now_us)

    def move(self, window: Window, phase: WindowPhase) -> None:
        """Record a window's next phase."""
        window.phase = phase
        self.store_window(window)

    def store_window(self, window: Window) -> None:
        self.effects.writes.append(Put(window.row()))

    def store_partition(self, partition: Partition) -> None:
        self.effects.writes.append(Put(partition.row()))

    def publish_credits(self, lpar: str, credit_type: CreditType, now_us: int) -> None:
        partition = self.partitions.get(lpar)
        if partition is not None:
            target, in_use = self.target(partition, credit_type), self.in_use(lpar, credit_type)
            self.effects.publish(
                CreditsChanged(at_us=now_us, lpar=lpar, credit_type=credit_type, target=target, in_use=in_use)
            )

    def _count(self, window: Window) -> None:
        self.windows[window.window_id] = window
        self._in_use[window.lpar, window.credit_type] += 1
        self._on_unit[window.unit] += 1
