"""The state of a system as telemetry tells it: the hypervisor's snapshot and the messages that came after. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from protocol.codes import CreditType
from protocol.console_messages import SlotsStatus, SystemStatus
from protocol.message import Message
from protocol.telemetry_messages import CreditsChanged, PeerMoved
from vasbus.words import processors

LPAR_STATES = {
    "opened": "running",
    "resumed": "running",
    "returned": "running",
    "suspected": "suspected",
    "closed": "not_activated",
}
"""What a step of a partition's session makes of it."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Credits of one type: how many windows the partition may hold and how many the hypervisor's ledger has."""

    target: int
    in_use: int

    @property
    def excess(self) -> int:
        """Windows that the partition has beyond its target."""
        return max(0, self.in_use - self.target)


@dataclass(frozen=True, slots=True)
class LparPicture:
    """One partition."""

    name: str
    state: str
    processors: str
    home_chip: int
    pid: int
    endpoints: dict[str, str]
    pools: dict[CreditType, Pool]


@dataclass(frozen=True, slots=True)
class UnitPicture:
    """One NX unit."""

    name: str
    chip: int
    state: str
    windows: int
    pid: int


@dataclass(slots=True)
class Picture:
    """The whole system. `is_stale`: something happened that only a snapshot tells in full."""

    system: str = ""
    pid: int = 0
    recovering: bool = False
    cores_total: int = 0
    hundredths_free: int = 0
    qos_total: int = 0
    qos_free: int = 0
    slots: SlotsStatus | None = None
    lpars: dict[str, LparPicture] = field(default_factory=dict)
    units: dict[str, UnitPicture] = field(default_factory=dict)
    is_stale: bool = False

    def replace(self, status: SystemStatus) -> None:
        """Everything as a snapshot says."""
        self.system, self.pid, self.recovering = status.system, status.pid, status.recovering
        self.cores_total, self.hundredths_free = status.cores_total, status.hundredths_free
        self.qos_total, self.qos_free = status.qos_total, status.qos_free
        self.slots = status.slots
        self.lpars = {
            lpar.name: LparPicture(
                name=lpar.name,
                state=lpar.state,
                processors=processors(lpar.mode, lpar.cores, lpar.hundredths),
                home_chip=lpar.home_chip,
                pid=lpar.pid,
                endpoints=dict(lpar.endpoints),
                pools={pool.credit_type: Pool(pool.target, pool.in_use) for pool in lpar.pools},
            )
            for lpar in status.lpars
        }
        self.units = {
            unit.name: UnitPicture(unit.name, unit.chip, unit.state, unit.windows, unit.pid) for unit in status.units
        }
        self.is_stale = False

    def apply(self, message: Message) -> None:
        """What a message changes."""
        if isinstance(message, CreditsChanged):
            self._credits(message)
        elif isinstance(message, PeerMoved):
            self.is_stale = True
            lpar = self.lpars.get(message.name)
            if message.role == "lpar" and lpar is not None:
                self.lpars[lpar.name] = replace(lpar, state=LPAR_STATES.get(message.step, lpar.state))

    def _credits(self, message: CreditsChanged) -> None:
        """The message says nothing of the unit, nor of the processors behind a new target."""
        self.is_stale = True
        lpar = self.lpars.get(message.lpar)
        if lpar is not None:
            pools = {**lpar.pools, message.credit_type: Pool(message.target, message.in_use)}
            self.lpars[lpar.name] = replace(lpar, pools=pools)
