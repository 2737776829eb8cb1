"""Processes of a simulated system that stand still or are cut off: SIGSTOP and SIGCONT, and a broken network.

ZMTP's heartbeats find out about either after HEARTBEAT_TIMEOUT_MS: the connections are gone then, and ZeroMQ makes new
ones under the sessions when the process is back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from protocol.link import FABRIC, HCALL
from protocol.socket import HEARTBEAT_TIMEOUT_MS
from protocol.system import SystemSettings
from tests.system.story import is_up
from tests.system.system import Connection, Host, System

HYPERVISOR_LINKS = (HCALL.name, FABRIC.name)


@dataclass(slots=True)
class Absence:
    """A process that is away, and what came for it meanwhile. `runs`: it is cut off, not stopped."""

    runs: bool
    held: list[Callable[[], None]] = field(default_factory=list)
    broken: bool = False


class StandstillSystem(System):
    """A system whose processes can be stopped and cut off, and come back."""

    def __init__(self, settings: SystemSettings, seed: int) -> None:
        self.away: dict[str, Absence] = {}
        self.gone: dict[bytes, Connection] = {}
        """Broken connections that ZeroMQ goes on trying to make again."""
        super().__init__(settings, seed)

    @classmethod
    def up(cls, settings: SystemSettings, seed: int) -> StandstillSystem:
        """Every part runs."""
        system = cls(settings, seed)
        system.run_until(lambda: is_up(system))
        return system

    def stop(self, name: str) -> None:
        """SIGSTOP: it does nothing, and what is sent to it waits for it."""
        self._leave(name, runs=False)

    def cut(self, name: str) -> None:
        """Nothing gets through between it and the hypervisor; it goes on, and clients reach it."""
        self._leave(name, runs=True)

    def compute(self, name: str) -> None:
        """Its program is busy or asleep; the threads of its sockets live, so that its connections stay."""
        self.away[name] = Absence(runs=False)

    def back(self, name: str) -> None:
        """SIGCONT, the network is whole again, or the program goes on."""
        absence = self.away.pop(name)
        host = self.hosts[name]
        if absence.broken:
            self._reconnect(host)
        else:
            for deliver in absence.held:
                deliver()
        if host.alive:
            host.core.tick(self.now_us)
            self.settle(host)

    def _leave(self, name: str, *, runs: bool) -> None:
        absence = self.away[name] = Absence(runs)

        def notice() -> None:
            if self.away.get(name) is absence:
                absence.broken = True
                absence.held.clear()
                for peer in self._connections_of(self.hosts[name]):
                    if not runs or self.connections[peer].key in HYPERVISOR_LINKS:
                        self.gone[peer] = self.connections.pop(peer)

        self.later(HEARTBEAT_TIMEOUT_MS * 1000, notice)

    def _connections_of(self, host: Host) -> list[bytes]:
        """The connections that it dialled and those that it listens to."""
        listens = set(host.listens.values())
        live = self.connections.items()
        return [peer for peer, connection in live if connection.dialer is host or connection.endpoint in listens]

    def _reconnect(self, host: Host) -> None:
        """New connections in place of the broken ones, unless whoever dialled them has dialled anew."""
        listens = set(host.listens.values())
        for peer, connection in list(self.gone.items()):
            if connection.dialer is not host and connection.endpoint not in listens:
                continue
            del self.gone[peer]
            if connection.dialer.alive and connection.dialer.connections.get(connection.key) == peer:
                fresh = self.random.randbytes(5)
                connection.dialer.connections[connection.key] = fresh
                self.connections[fresh] = connection

    def _deliver(self, peer: bytes, connection: Connection, *, upwards: bool, envelope: Any) -> None:
        found = self._listener(connection.endpoint)
        ends = {connection.dialer.name} | ({found[0].name} if found is not None else set())
        receiver = (found[0].name if found is not None else "") if upwards else connection.dialer.name

        def deliver() -> None:
            super(StandstillSystem, self)._deliver(peer, connection, upwards=upwards, envelope=envelope)

        cut_off = any(name in self.away and self.away[name].runs for name in ends)
        if cut_off and connection.key in HYPERVISOR_LINKS:
            return
        if receiver in self.away and not self.away[receiver].runs:
            self.away[receiver].held.append(deliver)
        else:
            deliver()

    def _tick(self, host: Host, due_us: int) -> None:
        absence = self.away.get(host.name)
        if absence is None or absence.runs:
            super()._tick(host, due_us)
        elif host.ticking_us == due_us:
            host.ticking_us = None

    def settle(self, host: Host) -> None:
        """What ends while the process stands still leaves it when it goes on."""
        absence = self.away.get(host.name)
        if absence is None or absence.runs:
            super().settle(host)
