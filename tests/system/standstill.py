"""Processes of a simulated system that stand still or are cut off: SIGSTOP and SIGCONT, and a broken network.

ZMTP's heartbeats find out about either after HEARTBEAT_TIMEOUT_MS: the connections are gone then. When the process is
back, ZeroMQ makes them again under the same routing ids, whatever the programs at their ends do meanwhile.
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
    """A process that is away, and what came for it meanwhile. `runs`: it is cut off on `links`, not stopped."""

    runs: bool
    links: tuple[str, ...] = ()
    held: list[Callable[[], None]] = field(default_factory=list)
    broken: bool = False


class StandstillSystem(System):
    """A system whose processes can be stopped and cut off, and come back."""

    def __init__(self, settings: SystemSettings, seed: int) -> None:
        self.away: dict[str, Absence] = {}
        self.busy: dict[str, list[Callable[[], None]]] = {}
        """Processes whose program does not look at its sockets, and what waits there for it."""
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
        self._leave(name, Absence(runs=False))

    def cut(self, name: str, *links: str) -> None:
        """Nothing gets through between it and others on these links, by default the hypervisor's; it goes on."""
        self._leave(name, Absence(runs=True, links=links or HYPERVISOR_LINKS))

    def compute(self, name: str) -> None:
        """Its program is busy or asleep, until `goes_on`; the threads of its sockets live and keep its connections."""
        self.busy[name] = []

    def goes_on(self, name: str) -> None:
        """The program looks at its sockets again."""
        for deliver in self.busy.pop(name):
            deliver()
        self._tick_now(self.hosts[name])

    def back(self, name: str) -> None:
        """SIGCONT, or the network is whole again."""
        absence = self.away.pop(name)
        host = self.hosts[name]
        if absence.broken:
            self._reconnect(host)
        else:
            for deliver in absence.held:
                deliver()
        self._tick_now(host)

    def _tick_now(self, host: Host) -> None:
        if host.alive and host.name not in self.busy:
            host.core.tick(self.now_us)
            self.settle(host)

    def _leave(self, name: str, absence: Absence) -> None:
        self.away[name] = absence

        def notice() -> None:
            if self.away.get(name) is absence:
                absence.broken = True
                absence.held.clear()
                for peer in self._connections_of(self.hosts[name]):
                    if not absence.runs or self.connections[peer].key in absence.links:
                        self.gone[peer] = self.connections.pop(peer)

        self.later(HEARTBEAT_TIMEOUT_MS * 1000, notice)

    def _connections_of(self, host: Host) -> list[bytes]:
        """The connections that it dialled and those that it listens to."""
        listens = set(host.listens.values())
        live = self.connections.items()
        return [peer for peer, connection in live if connection.dialer is host or connection.endpoint in listens]

    def _reconnect(self, host: Host) -> None:
        """The broken connections are made again, unless whoever dialled them has dialled anew or is still away."""
        listens = set(host.listens.values())
        for peer, connection in list(self.gone.items()):
            if connection.dialer is not host and connection.endpoint not in listens:
                continue
            if any(self._is_away(name, connection.key) for name in self._ends(connection)):
                continue
            del self.gone[peer]
            if connection.dialer.alive and connection.dialer.connections.get(connection.key) == peer:
                self.connections[peer] = connection

    def _deliver(self, peer: bytes, connection: Connection, *, upwards: bool, envelope: Any) -> None:
        dialer, listener = ends = self._ends(connection)
        receiver = listener if upwards else dialer

        def deliver() -> None:
            super(StandstillSystem, self)._deliver(peer, connection, upwards=upwards, envelope=envelope)

        if any(name in self.away and connection.key in self.away[name].links for name in ends):
            return
        if receiver in self.away and not self.away[receiver].runs:
            self.away[receiver].held.append(lambda: self._hand_over(receiver, deliver))
        else:
            self._hand_over(receiver, deliver)

    def _ends(self, connection: Connection) -> tuple[str, str]:
        """Who dialled, and who listens; empty where nobody does."""
        found = self._listener(connection.endpoint)
        return connection.dialer.name, found[0].name if found is not None else ""

    def _is_away(self, name: str, key: str) -> bool:
        absence = self.away.get(name)
        return absence is not None and (not absence.runs or key in absence.links)

    def _hand_over(self, receiver: str, deliver: Callable[[], None]) -> None:
        if receiver in self.busy:
            self.busy[receiver].append(deliver)
        else:
            deliver()

    def _tick(self, host: Host, due_us: int) -> None:
        absence = self.away.get(host.name)
        if (absence is None or absence.runs) and host.name not in self.busy:
            super()._tick(host, due_us)
        elif host.ticking_us == due_us:
            host.ticking_us = None

    def settle(self, host: Host) -> None:
        """What ends while the process stands still leaves it when it goes on."""
        absence = self.away.get(host.name)
        if absence is None or absence.runs:
            super().settle(host)
