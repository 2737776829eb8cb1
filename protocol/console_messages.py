"""The hmc link: the management console asks the hypervisor for changes and for the state of the system."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from protocol.codes import CreditType, WindowStatus
from protocol.message import I32, U16, U32, U64, Endpoints, Flag, Name, Part, Reply, Request, Text


class ChangeProcessors(Request):
    """DLPAR: add (+) or remove (-) dedicated cores. Answered when the partition has reconfigured."""

    type: Literal["change_processors"] = "change_processors"
    lpar: Name
    cores: I32
    wait_ms: U32


class SetEntitlement(Request):
    """Set the entitled capacity of a shared-processor partition, in hundredths of a processor."""

    type: Literal["set_entitlement"] = "set_entitlement"
    lpar: Name
    hundredths: I32
    wait_ms: U32


class SetQosCredits(Request):
    """Set a partition's QoS credits. The partition is told first; if it refuses, nothing changes."""

    type: Literal["set_qos_credits"] = "set_qos_credits"
    lpar: Name
    credits: I32
    wait_ms: U32


class MigratePartition(Request):
    """Migrate a partition: its kernel closes every window, waits `hold_ms` for the move, and reopens them.

    Answered with ConfigurationApplied (the windows closed and reopened) when the partition has resumed.
    """

    type: Literal["migrate_partition"] = "migrate_partition"
    lpar: Name
    hold_ms: U32
    wait_ms: U32


class HoldNotifications(Request):
    """Test aid: keep configuration changes from reaching a partition, or let them through again."""

    type: Literal["hold_notifications"] = "hold_notifications"
    lpar: Name
    hold: Flag


class ConfigurationApplied(Reply):
    """A change was applied. `window ids` as the partition reported them; `elapsed_us` from lowering the target.

    `running` is false when the partition was not up: the change then has effect at its next start.
    """

    type: Literal["configuration_applied"] = "configuration_applied"
    lpar: Name
    generation: U64
    running: Flag
    total_before: U16
    total_after: U16
    closed: tuple[U32, ...] = ()
    reopened: tuple[U32, ...] = ()
    elapsed_us: U64 = 0


class ConsoleFailure(Reply):
    """A change was refused or did not finish. Amounts are in the request's unit where they apply."""

    type: Literal["console_failure"] = "console_failure"
    code: Name
    text: Text
    available: I32 | None = None
    assigned: I32 | None = None
    requested: I32 | None = None
    advice: Text = ""


class HoldChanged(Reply):
    type: Literal["hold_changed"] = "hold_changed"
    hold: Flag


class QuerySystem(Request):
    """The state of the whole system as the hypervisor sees it."""

    type: Literal["query_system"] = "query_system"


class PoolStatus(Part):
    """One credit pool of a partition: `in_use` counts ledger windows, also those being drained."""

    credit_type: CreditType
    target: U16
    in_use: U32

    @property
    def excess(self) -> int:
        """Windows beyond the target: the hypervisor revokes none, it waits for the partition to close them."""
        return max(0, self.in_use - self.target)


class LparStatus(Part):
    """`state` is one of `not_activated`, `running`, `suspected`, `recovering`."""

    name: Name
    state: Name
    mode: Name
    cores: U32
    hundredths: U32
    home_chip: U32
    epoch: U64
    generation: U64
    acknowledged: U64
    pid: U32
    endpoints: Endpoints
    pools: tuple[PoolStatus, ...]


class UnitStatus(Part):
    """`state` is one of `absent`, `starting`, `running`, `suspected`, `fenced`."""

    name: Name
    chip: U32
    state: Name
    pid: U32
    endpoints: Endpoints
    windows: U32


class WindowRow(Part):
    """One row of the hypervisor's window table."""

    window_id: U32
    lpar: Name
    credit_type: CreditType
    unit: Name
    status: WindowStatus
    state: Name
    process_id: U64


class SlotsStatus(Part):
    """The slots of a template: how many there are, and how many are claimed. A claimed one is among the partitions."""

    template: Name
    count: U32
    claimed: U32


class SystemStatus(Reply):
    """`telemetry_sequence` is the number of the last telemetry message that this snapshot includes."""

    type: Literal["system_status"] = "system_status"
    system: Name
    pid: U32
    recovering: Flag
    accelerators: Flag = True
    cores_total: U32
    hundredths_free: U32
    qos_total: U32
    qos_free: U32
    lpars: tuple[LparStatus, ...]
    units: tuple[UnitStatus, ...]
    telemetry_sequence: U64
    telemetry: Endpoints = Field(default_factory=dict)
    slots: SlotsStatus | None = None


class QueryWindows(Request):
    """The window table from `above` on, of one partition or of all; ask again with the last id for more."""

    type: Literal["query_windows"] = "query_windows"
    lpar: Name | None = None
    above: U32 = 0


class Windows(Reply):
    """Rows in rising id; `more` says that the table goes on."""

    type: Literal["windows"] = "windows"
    rows: Annotated[tuple[WindowRow, ...], Field(max_length=1024)]
    more: Flag
