"""The hypervisor's core among fake neighbours, with a virtual clock and a store that survives kill -9."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hypervisor.core import HypervisorCore
from hypervisor.fsck import check
from protocol.clock import SECOND_US, earliest
from protocol.codes import CreditType
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    ConsoleFailure,
    HoldNotifications,
    LparStatus,
    MigratePartition,
    QuerySystem,
    QueryWindows,
    SetEntitlement,
    SetQosCredits,
    SystemStatus,
    UnitStatus,
    WindowRow,
    Windows,
)
from protocol.effects import Dial, Effects, Hangup, LogLine, Peer, Send
from protocol.link import LINKS
from protocol.message import Message
from protocol.system import SystemSettings
from protocol.wire import decode, encode
from tests.hypervisor.end import End, FakeConsole
from tests.hypervisor.fake_lpar import FakeLpar
from tests.hypervisor.fake_unit import FakeUnit
from tests.hypervisor.table_store import TableStore

PUMP_LIMIT = 2_000
WAIT_LIMIT_US = 300 * SECOND_US

CHECKED_ROWS = 300
"""A larger ledger is not checked after every commit of a test."""

Told = TypeVar("Told", bound=Message)


@dataclass(slots=True)
class Kill:
    """kill -9 in the `turns`-th turn from now that has something to store, before or after its commit."""

    turns: int
    committed: bool


def settings(**changes: object) -> SystemSettings:
    """Two chips of four cores; lp1 and lp2 dedicated with 40 credits each, lp3 shared with 16."""
    tables: dict[str, object] = {
        "name": "test",
        "chip": [{"number": 0, "unit": "nx0", "cores": 4}, {"number": 1, "unit": "nx1", "cores": 4}],
        "lpar": [
            {"name": "lp1", "mode": "dedicated", "cores": 2, "home_chip": 0},
            {"name": "lp2", "mode": "dedicated", "cores": 2, "home_chip": 1},
            {"name": "lp3", "mode": "shared", "hundredths": 80, "home_chip": 1},
        ],
    }
    return SystemSettings.model_validate({**tables, **changes})


class Cluster:
    """One hypervisor, its units, partitions and a console. Nothing runs before `start`."""

    def __init__(self, system: SystemSettings | None = None, seed: int = 1) -> None:
        self.system = system or settings()
        self.now_us = 1_000 * SECOND_US
        self.store = TableStore()
        self.kill: Kill | None = None
        self.kills = 0
        self.log: list[LogLine] = []
        self.loses: Callable[[str, Message], bool] = lambda _name, _body: False
        self._random = random.Random(seed)
        self._connections: dict[Peer, End] = {}
        self._connected = 0
        self.core = self._boot()
        self.units = {chip.unit: FakeUnit(self, chip.unit) for chip in self.system.chip}
        self.lpars = {lpar.name: FakeLpar(self, lpar.name) for lpar in self.system.lpar}
        self.console = FakeConsole(self, "console-1")
        self.consoles = [self.console]

    def entropy(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def _boot(self) -> HypervisorCore:
        core = HypervisorCore(self.system, self.store.rows(), self.entropy, 100 + getattr(self, "kills", 0))
        core.start(self.now_us)
        return core

    def start(self) -> Cluster:
        """Everybody connects."""
        for end in self.ends:
            end.start()
        self.wait(lambda: all(end.dialer.established for end in self.ends))
        self.pump()
        return self

    @property
    def ends(self) -> list[End]:
        return [*self.units.values(), *self.lpars.values(), *self.consoles]

    def new_console(self, name: str, role: str = "hmc") -> FakeConsole:
        console = FakeConsole(self, name, role)
        self.consoles.append(console)
        console.start()
        return console

    # Time.

    def pump(self) -> None:
        """Turn the loop until nobody has anything more to say at this moment."""
        for _ in range(PUMP_LIMIT):
            moved = self._carry_up()
            if not self._turn() and not moved:
                return
        raise AssertionError("the cluster does not come to rest")

    def advance(self, duration_us: int) -> None:
        """Let time pass."""
        until_us = self.now_us + duration_us
        while self.now_us < until_us:
            self._step(until_us)

    def wait(self, condition: Callable[[], bool], limit_us: int = WAIT_LIMIT_US) -> None:
        """Let time pass until the condition holds."""
        until_us = self.now_us + limit_us
        self.pump()
        while not condition():
            assert self.now_us < until_us, "it did not happen before the deadline"
            self._step(until_us)

    def _step(self, until_us: int) -> None:
        self.pump()
        running = [end for end in self.ends if end.running]
        next_us = earliest(self.core.wake_us(), *(end.wake_us() for end in running))
        self.now_us = until_us if next_us is None else min(max(next_us, self.now_us + 1), until_us)
        for end in running:
            end.tick()
        self.pump()

    # The network.

    def _carry_up(self) -> bool:
        moved = False
        for end in self.ends:
            for wish in end.effects.take().transmissions:
                moved = True
                if isinstance(wish, Dial) and end.running:
                    self._connect(end)
                elif isinstance(wish, Hangup):
                    self._disconnect(end)
                elif isinstance(wish, Send) and end.running and end.peer is not None:
                    self._send_up(end, end.peer, wish)
        return moved

    def _send_up(self, end: End, peer: Peer, wish: Send) -> None:
        if not end.cut and not self.loses(end.name, wish.envelope.body):
            self.core.receive(end.link.name, peer, decode(encode(wish.envelope), end.link.up), self.now_us)

    def _connect(self, end: End) -> None:
        self._disconnect(end)
        self._connected += 1
        end.peer = b"peer%d" % self._connected
        self._connections[end.peer] = end

    def _disconnect(self, end: End) -> None:
        if end.peer is not None:
            self._connections.pop(end.peer, None)
            end.peer = None

    def _turn(self) -> bool:
        self.core.tick(self.now_us)
        effects = self.core.effects.take()
        if self.kill is not None and effects.writes:
            self.kill.turns -= 1
            if self.kill.turns <= 0:
                if self.kill.committed:
                    self._commit(effects.writes)
                self.restart()
                return True
        self._settle(effects)
        return bool(effects.transmissions)

    def _settle(self, effects: Effects) -> None:
        self.log += effects.log
        if effects.writes:
            self._commit(effects.writes)
        for wish in effects.transmissions:
            if isinstance(wish, Send):
                self._carry_down(wish)

    def _commit(self, writes: Sequence[object]) -> None:
        """What every hypervisor leaves behind, at whatever turn it is killed, is a sound ledger."""
        self.store.commit(writes)
        rows = self.store.rows()
        found = check(rows) if len(rows) <= CHECKED_ROWS else []
        assert not found, [str(finding) for finding in found]

    def _carry_down(self, wish: Send) -> None:
        end = self._connections.get(wish.peer)
        if end is None or end.peer != wish.peer:
            self.core.unreachable(wish.link, wish.peer, self.now_us)
        elif not end.cut and not self.loses(end.name, wish.envelope.body):
            end.receive(decode(encode(wish.envelope), LINKS[wish.link].down))

    def restart(self) -> None:
        """kill -9 and start the hypervisor again: what was not committed is gone, every connection is a new one."""
        self.kill = None
        self.kills += 1
        self.core = self._boot()
        for end in self.ends:
            if end.running and end.peer is not None:
                self._connect(end)

    # The console.

    def operate(
        self, body: ChangeProcessors | SetEntitlement | SetQosCredits | MigratePartition
    ) -> ConfigurationApplied | ConsoleFailure:
        reply = self.console.ask(body)
        assert isinstance(reply, ConfigurationApplied | ConsoleFailure), reply
        return reply

    def dlpar(self, lpar: str, cores: int, wait_ms: int = 5_000) -> ConfigurationApplied | ConsoleFailure:
        return self.operate(ChangeProcessors(lpar=lpar, cores=cores, wait_ms=wait_ms))

    def entitle(self, lpar: str, hundredths: int, wait_ms: int = 5_000) -> ConfigurationApplied | ConsoleFailure:
        return self.operate(SetEntitlement(lpar=lpar, hundredths=hundredths, wait_ms=wait_ms))

    def qos(self, lpar: str, credits: int, wait_ms: int = 5_000) -> ConfigurationApplied | ConsoleFailure:
        return self.operate(SetQosCredits(lpar=lpar, credits=credits, wait_ms=wait_ms))

    def migrate(self, lpar: str, wait_ms: int = 5_000) -> ConfigurationApplied | ConsoleFailure:
        return self.operate(MigratePartition(lpar=lpar, hold_ms=0, wait_ms=wait_ms))

    def hold(self, lpar: str, *, hold: bool) -> None:
        self.console.ask(HoldNotifications(lpar=lpar, hold=hold))

    def status(self) -> SystemStatus:
        return told(self.console.ask(QuerySystem()), SystemStatus)

    def windows(self) -> list[WindowRow]:
        return list(told(self.console.ask(QueryWindows()), Windows).rows)

    def lpar_status(self, lpar: str) -> LparStatus:
        return next(status for status in self.status().lpars if status.name == lpar)

    def unit_status(self, unit: str) -> UnitStatus:
        return next(status for status in self.status().units if status.name == unit)

    def pool(self, lpar: str, credit_type: CreditType = CreditType.DEFAULT) -> tuple[int, int]:
        """(target, in use) of one pool."""
        pools = self.lpar_status(lpar).pools
        return next((pool.target, pool.in_use) for pool in pools if pool.credit_type is credit_type)


def told(reply: Message | None, kind: type[Told]) -> Told:
    """The reply, which must be of this kind."""
    assert isinstance(reply, kind), reply
    return reply


def lasting(status: SystemStatus) -> SystemStatus:
    """The status without what belongs to the process: its pid, the telemetry count, connections that come back."""
    lpars = tuple(lpar.model_copy(update={"state": ""}) for lpar in status.lpars)
    units = tuple(unit.model_copy(update={"state": "", "pid": 0, "endpoints": {}}) for unit in status.units)
    gone = {"pid": 0, "telemetry_sequence": 0, "recovering": False, "lpars": lpars, "units": units}
    return status.model_copy(update=gone)


def without_use(status: SystemStatus) -> SystemStatus:
    """The status but for the credits in use: those of fenced windows come back whenever their unit is there again."""
    lpars = []
    for lpar in status.lpars:
        pools = tuple(pool.model_copy(update={"in_use": 0}) for pool in lpar.pools)
        lpars.append(lpar.model_copy(update={"pools": pools}))
    return status.model_copy(update={"lpars": tuple(lpars)})


def not_fenced(rows: list[WindowRow]) -> list[WindowRow]:
    """The windows of living partitions, but for their status, which follows their unit."""
    return [row.model_copy(update={"status": 0}) for row in rows if row.state != "fenced"]
