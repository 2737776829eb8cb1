"""The description of a system: one TOML file for the launcher, the containers and the simulator.

Times are milliseconds, sizes bytes, entitled capacity hundredths of a processor.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from protocol.clock import MILLISECOND_US
from protocol.message import LOCAL_NETWORK, NAME_RULE, Endpoint, Name
from protocol.partition_settings import HUNDREDTHS_PER_CORE as HUNDREDTHS_PER_CORE
from protocol.partition_settings import MINIMUM_HUNDREDTHS as MINIMUM_HUNDREDTHS
from protocol.partition_settings import LparSettings as LparSettings
from protocol.partition_settings import ProcessorMode as ProcessorMode
from protocol.partition_settings import SlotSettings as SlotSettings
from protocol.session import Terms
from protocol.settings import INCONSISTENT, Count, Settings, inconsistent, unique
from protocol.toml_lines import Steps, place_of, syntax_complaint
from protocol.wire import most_telling

Milliseconds = Annotated[int, Field(strict=True, ge=1, le=3_600_000)]


class SettingsError(Exception):
    """The system file is wrong; the text says where and what was expected."""


class QosRule(StrEnum):
    """Whether QoS credits lower the partition's default credits; public sources leave the formula open."""

    LPAR = "lpar"
    NONE = "none"


class ReopenPolicy(StrEnum):
    """Who reopens closed windows: the kernel only when credits are added, or eagerly whenever one is free."""

    KERNEL = "kernel"
    EAGER = "eager"


class Times(Settings):
    """Beats, leases and deadlines. `fence_ms` must outlast any restart of the hypervisor."""

    beat_ms: Milliseconds = 1_000
    suspect_ms: Milliseconds = 3_000
    lpar_lease_ms: Milliseconds = 10_000
    client_lease_ms: Milliseconds = 5_000
    fence_ms: Milliseconds = 30_000
    drift_margin_ms: Milliseconds = 100
    hcall_patience_ms: Milliseconds = 50
    """How long the hypervisor keeps an hcall waiting for an NX unit before it answers long-busy."""
    kernel_deadline_ms: Milliseconds = 10_000
    """How long an open waits for a busy hypervisor or the driver's mutex before EIO."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        pairs = (
            (self.beat_ms < self.suspect_ms, "beat_ms", "suspect_ms"),
            (self.suspect_ms <= self.lpar_lease_ms, "suspect_ms", "lpar_lease_ms"),
            (self.lpar_lease_ms < self.fence_ms, "lpar_lease_ms", "fence_ms"),
        )
        for holds, lesser, greater in pairs:
            if not holds:
                came = f"{lesser} = {getattr(self, lesser)}, {greater} = {getattr(self, greater)}"
                order = "expected beat_ms < suspect_ms <= lpar_lease_ms < fence_ms"
                raise inconsistent(f"{order} (came: {came})", (lesser,), (greater,))
        return self

    def terms(self, lease_ms: int, *, by_beats: bool, session_limit: int = 1024) -> Terms:
        """Session terms with this lease."""
        return Terms(
            by_beats=by_beats,
            beat_us=self.beat_ms * MILLISECOND_US,
            suspect_us=self.suspect_ms * MILLISECOND_US,
            lease_us=lease_ms * MILLISECOND_US,
            drift_margin_us=self.drift_margin_ms * MILLISECOND_US,
            session_limit=session_limit,
        )


class Limits(Settings):
    """Sizes of tables. A process that reaches one is refused by its name."""

    windows_per_unit: Annotated[int, Field(strict=True, ge=1, le=65_536)] = 65_536
    sessions: Annotated[int, Field(strict=True, ge=1, le=65_536)] = 4_096
    descriptors_per_process: Annotated[int, Field(strict=True, ge=1, le=65_536)] = 1_024
    memory_mb: Annotated[int, Field(strict=True, ge=64)] = 2_048


class ChipSettings(Settings):
    """One processor chip with its NX unit. `fifo_depth` is CRBs per receive FIFO (8 was considered for PowerVM)."""

    number: Annotated[int, Field(strict=True, ge=0, le=255)]
    unit: Name
    cores: Annotated[int, Field(strict=True, ge=1, le=1_000)]
    fifo_depth: Annotated[int, Field(strict=True, ge=1, le=256)] = 8


class SystemSettings(Settings):
    """A whole system."""

    name: Name = "vasbus"
    credits_per_core: Annotated[int, Field(strict=True, ge=1, le=1_000)] = 20
    qos_credits: Count = 128
    qos_reduces_default: QosRule = QosRule.LPAR
    reopen: ReopenPolicy = ReopenPolicy.KERNEL
    accelerators: Annotated[bool, Field(strict=True)] = True
    """Without: no user-mode copy/paste, partitions boot without the device, and the HMC answers HSCLC014."""
    request_limit_bytes: Annotated[int, Field(strict=True, ge=4_096, le=2 << 20)] = 1 << 20
    low_limit_bytes: Annotated[int, Field(strict=True, ge=0, le=2 << 20)] = 65_536
    """What one request gets done while high-priority work waits; 0: as much as otherwise."""
    min_compress_bytes: Annotated[int, Field(strict=True, ge=0)] = 32_768
    min_decompress_bytes: Annotated[int, Field(strict=True, ge=0)] = 32_768
    times: Times = Times()
    limits: Limits = Limits()
    chip: Annotated[tuple[ChipSettings, ...], Field(min_length=1, max_length=64)]
    lpar: Annotated[tuple[LparSettings, ...], Field(min_length=1, max_length=1_024)]
    slots: SlotSettings | None = None

    @property
    def cores_total(self) -> int:
        return sum(chip.cores for chip in self.chip)

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The names of the slots, the lowest first; none without [slots]."""
        return tuple(slot.name for slot in self.slots.slots) if self.slots is not None else ()

    @property
    def partitions(self) -> tuple[LparSettings, ...]:
        """Every partition that there may be: the named ones, then the slots."""
        return self.lpar + (self.slots.slots if self.slots is not None else ())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_names()
        numbers = [chip.number for chip in self.chip]
        homes: list[tuple[LparSettings, Steps]] = [(lpar, ("lpar", at)) for at, lpar in enumerate(self.lpar)]
        homes += [(self.slots, ("slots",))] if self.slots is not None else []
        for lpar, steps in homes:
            if lpar.home_chip not in numbers:
                problem = f"{lpar.name}: home_chip {lpar.home_chip} is none of the chips {sorted(numbers)}"
                raise inconsistent(problem, (*steps, "home_chip"))
        have = self.cores_total * HUNDREDTHS_PER_CORE
        wanted = [lpar.capacity_hundredths for lpar in self.lpar]
        if sum(wanted) > have:
            problem = f"the partitions want {sum(wanted)} hundredths of a processor, the chips have {have}"
            index = _first_beyond(wanted, have)
            raise inconsistent(problem, ("lpar", index, "cores"), ("lpar", index, "hundredths"))
        qos = [lpar.qos_credits for lpar in self.lpar]
        if sum(qos) > self.qos_credits:
            problem = f"the partitions have {sum(qos)} QoS credits, the system {self.qos_credits}"
            raise inconsistent(problem, ("lpar", _first_beyond(qos, self.qos_credits), "qos_credits"))
        if self.slots is not None:
            self.slots.check_room(have - sum(wanted), self.qos_credits - sum(qos))
        return self

    def _check_names(self) -> None:
        """Names and chip numbers are used once; one process is called hypervisor."""
        names: list[tuple[str, Steps]] = [(chip.unit, ("chip", at, "unit")) for at, chip in enumerate(self.chip)]
        names += [(lpar.name, ("lpar", at, "name")) for at, lpar in enumerate(self.lpar)]
        if self.slots is not None:
            names += [(name, ("slots", "name")) for name in (self.slots.name, *self.slot_names)]
        unique("name", [("hypervisor", ()), *names])
        unique("chip number", [(str(chip.number), ("chip", at, "number")) for at, chip in enumerate(self.chip)])

    def lpar_named(self, name: str) -> LparSettings | None:
        """A named partition, or a slot with what its template says."""
        return next((lpar for lpar in self.partitions if lpar.name == name), None)

    def chip_of_unit(self, unit: str) -> ChipSettings | None:
        return next((chip for chip in self.chip if chip.unit == unit), None)


def _first_beyond(amounts: Sequence[int], limit: int) -> int:
    """The index of the first amount that does not fit any more."""
    return next(index for index, total in enumerate(accumulate(amounts)) if total > limit)


def parse_system(text: str, source: str) -> SystemSettings:
    """Read a system file's text. Raises SettingsError with `source`, line where known, key and what was expected."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(syntax_complaint(text, source, error)) from None
    except RecursionError:
        raise SettingsError(f"{source}: nested too deeply") from None
    try:
        return SystemSettings.model_validate(_flat(tables, text, source))
    except ValidationError as error:
        complaint = most_telling(error.errors(include_url=False))
        blamed = complaint.get("ctx", {}).get("blamed", ((),))
        where, steps = place_of(text, source, [(*complaint["loc"], *key) for key in blamed])
        key = ".".join(str(step) for step in steps)
        raise SettingsError(f"{where}: {key or 'system'}: {_expectation(complaint)}") from None


def _expectation(complaint: ErrorDetails) -> str:
    """What was expected and what came."""
    kind = complaint["type"]
    expected = complaint["msg"]
    if kind == "extra_forbidden":
        expected = "there is no such key; the sample system file has those that there are"
    elif kind == "string_pattern_mismatch":
        expected = f"expected {NAME_RULE}"
    return expected if kind in ("missing", INCONSISTENT) else f"{expected} (came: {complaint['input']!r:.60})"


def _flat(tables: dict[str, object], text: str, source: str) -> dict[str, object]:
    """The keys of [system] beside the other tables, which is how SystemSettings has them."""
    system = tables.get("system", {})
    if not isinstance(system, dict):
        return tables
    others = {key: value for key, value in tables.items() if key != "system"}
    for key in system.keys() & others.keys():
        where, _ = place_of(text, source, [(key,)])
        raise SettingsError(f"{where}: {key}: stands in [system] and outside of it; expected one of the two")
    return {**system, **others}


class Addresses(Settings):
    """Where the sockets of a system are. `device` and `paste` are by partition and by unit.

    `advertised` is where a process tells others to find it, by network; empty: where it listens, on `network`.
    """

    hcall: Endpoint
    fabric: Endpoint
    hmc: Endpoint
    telemetry: Endpoint
    device: dict[Name, Endpoint]
    paste: dict[Name, Endpoint]
    network: Name = LOCAL_NETWORK
    advertised: dict[Name, Endpoint] = Field(default_factory=dict)


def local_addresses(system: SystemSettings, runtime_folder: str) -> Addresses:
    """ipc endpoints in a folder; its path must be short, because a socket's path ends at 107 bytes."""

    def at(name: str) -> str:
        return f"ipc://{runtime_folder}/{name}"

    return Addresses(
        hcall=at("hypervisor.hcall"),
        fabric=at("hypervisor.fabric"),
        hmc=at("hypervisor.hmc"),
        telemetry=at("hypervisor.telemetry"),
        device={lpar.name: at(f"{lpar.name}.device") for lpar in system.lpar},
        paste={chip.unit: at(f"{chip.unit}.paste") for chip in system.chip},
    )
