"""Replicas in a whole system: their kernels, their clients, a network that loses messages, and crashes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import pytest

from lpar.client import NxGzip
from lpar.core import LparCore
from protocol.clock import SECOND_US
from protocol.codes import CreditType, ExitCode
from protocol.console_messages import ChangeProcessors, ConfigurationApplied, QuerySystem, SystemStatus
from protocol.dialer import Identity
from protocol.effects import Send
from protocol.system import parse_system
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.system.audit import Audit
from tests.system.crash import Point
from tests.system.story import is_up
from tests.system.system import Connection, Host, System, Weather
from tests.system.watching import StepKind, Watcher

SETTINGS = """
[system]
name = "replicas"
qos_credits = 8

[[chip]]
number = 0
unit = "nx0"
cores = 3

[[chip]]
number = 1
unit = "nx1"
cores = 2

[[lpar]]
name = "lp1"
cores = 2

[slots]
name = "lpar"
count = 3
cores = 1
qos_credits = 2
"""
LEASE_US = 10_100_000
DATA = b"whoever dials in " * 4_000


class Replicated(System):
    """A system to which replicas may be added. What those in `cut` and the hypervisor say to each other is lost."""

    def __init__(self, seed: int, *watchers: Watcher) -> None:
        self.cut: set[str] = set()
        super().__init__(parse_system(SETTINGS, "replicas"), seed, watchers)
        self.run_until(lambda: is_up(self))

    def _transmit(self, peer: bytes, connection: Connection, send: Send) -> None:
        if connection.dialer.name not in self.cut or connection.key != "hcall":
            super()._transmit(peer, connection, send)

    def add(self, name: str) -> LparCore:
        template = self.settings.slots
        assert template is not None
        endpoint = f"ipc:///run/v/{name}.device"
        device = {**self.addresses.device, name: endpoint}
        self.addresses = self.addresses.model_copy(update={"device": device})
        who = Identity("slot", template.name, self.random.randbytes(16), "local", self.next_pid(), {"local": endpoint})
        core = LparCore(self.settings, template, who, self.addresses.hcall, self.random.randbytes)
        self.start("lpar", name, core, {"device": endpoint})
        return core

    def added(self, *names: str) -> list[LparCore]:
        """Replicas that have booted, one after the other."""
        cores = []
        for name in names:
            cores.append(self.add(name))
            self.run_until(lambda: cores[-1].kernel.booted)
        return cores

    def status(self) -> SystemStatus:
        console = self.console()
        found = console.ask(QuerySystem())
        assert isinstance(found, SystemStatus)
        return found

    def spare(self) -> tuple[int, int]:
        ledger = self.hypervisor.ledger
        return ledger.free_hundredths(), self.hypervisor.configurations.qos_free()

    def check_books(self) -> None:
        """Every core and every credit is somebody's or nobody's, and windows are those of the kernels."""
        ledger = self.hypervisor.ledger
        partitions = ledger.partitions.values()
        given = sum(partition.capacity_hundredths for partition in partitions)
        assert given + ledger.free_hundredths() == self.settings.cores_total * 100
        sessions = self.hypervisor.hcall.sessions
        for name in self.settings.slot_names:
            assert ledger.partitions[name].is_free_slot == (name not in sessions)
        counted = {window.window_id for window in ledger.windows.values()}
        kernels = [host.core for host in self.hosts.values() if isinstance(host.core, LparCore)]
        held = [
            window.window_id
            for core in kernels
            for pool in core.kernel.driver.pools.values()
            for window in pool.newest_first()
            if window.is_active
        ]
        assert sorted(held) == sorted(counted)
        assert self.contexts().keys() == counted


def compresses(system: Replicated, replica: str) -> NxGzip:
    """A client of a replica with one window that works."""
    nx = NxGzip(system.client(replica), small_bytes=0)
    nx.open()
    works(nx)
    return nx


def works(nx: NxGzip) -> None:
    """What it compresses is done by an NX unit."""
    before = nx.statistics().compress.nx_bytes
    assert zlib.decompress(nx.compress(DATA), 31) == DATA
    assert nx.statistics().compress.nx_bytes == before + len(DATA)


def test_replicas_are_partitions_with_clients_of_their_own() -> None:
    system = Replicated(1)
    first, second = system.added("one", "two")
    assert (first.name, second.name) == ("lpar-01", "lpar-02")
    clients = [compresses(system, name) for name in ("one", "two", "lp1")]
    assert sorted(window.lpar for window in system.hypervisor.ledger.windows.values()) == ["lp1", "lpar-01", "lpar-02"]
    for nx in clients:
        works(nx)
    system.check_books()


def test_a_replica_is_told_of_cores_like_any_partition() -> None:
    system = Replicated(2)
    system.added("one")
    reply = system.console().ask(ChangeProcessors(lpar="lpar-01", cores=1, wait_ms=5_000))
    assert isinstance(reply, ConfigurationApplied)
    assert (reply.running, reply.total_before, reply.total_after) == (True, 18, 38)
    assert system.kernel("one").kernel.driver.pools[CreditType.DEFAULT].total == 38
    assert system.spare() == (100, 6)


@failure(
    "lpar",
    "a replica that has claimed a slot is killed",
    seen="Its slot, its processors and QoS credits, also those that DLPAR gave it, are not free yet.",
    lasts="Its lease of 10.1 s; the slot itself until its windows are closed. A claim waits for that long.",
    kept="Everybody else's slots, windows and credits.",
)
def test_a_killed_replica_costs_its_slot_for_a_lease(figure: Figure) -> None:
    system = Replicated(3)
    system.added("one", "two", "three")
    other = compresses(system, "two")
    compresses(system, "one")
    died_us = system.now_us
    system.kill("one")
    fourth = system.add("four")
    system.run_until(lambda: fourth.kernel.booted)
    figure("from its death to the boot of a replica that waited for the slot", (system.now_us - died_us) / 1e6, "s")
    assert system.now_us - died_us <= LEASE_US + 2 * SECOND_US
    assert fourth.name == "lpar-01"
    works(other)
    works(compresses(system, "four"))
    system.check_books()


def test_a_replica_that_finds_no_slot_for_two_leases_ends_with_one_clear_line() -> None:
    system = Replicated(4)
    system.added("one", "two", "three")
    fourth = system.add("four")
    began_us = system.now_us
    system.run_until(lambda: fourth.effects.exit is not None)
    assert fourth.effects.exit is not None
    assert fourth.effects.exit.code is ExitCode.REFUSED
    assert fourth.effects.exit.reason.startswith("slots_full: expected a free slot of 'lpar', came 3 of 3 claimed")
    assert 2 * LEASE_US <= system.now_us - began_us <= 2 * LEASE_US + 2 * SECOND_US


def test_a_replica_whose_session_died_comes_back_with_a_slot_and_without_its_old_windows() -> None:
    """It was cut off for longer than its lease, and somebody else has its slot by then."""
    system = Replicated(5, Audit())
    one, _, _ = system.added("one", "two", "three")
    old = compresses(system, "one")
    system.cut.add("one")
    system.pass_time(LEASE_US + 3 * SECOND_US)
    (four,) = system.added("four")
    assert four.name == "lpar-01"
    system.kill("two")
    system.cut.clear()
    system.run_until(lambda: one.dialer.established and one.kernel.booted)
    assert one.name == "lpar-02"
    assert one.kernel.left_behind == (0, 0)
    system.pass_time(5 * SECOND_US)
    system.check_books()
    assert old.lpar.is_alive is False
    works(compresses(system, "one"))
    system.check_books()


@pytest.mark.parametrize("seed", range(6))
def test_in_bad_weather_each_replica_has_one_slot(seed: int) -> None:
    """Messages are lost, repeated and late: HELLOs, WELCOMEs and BYEs too."""
    system = Replicated(seed, Audit())
    weather = system.weather = Weather(loss=0.2, repeat=0.2, late=0.3)
    first = [system.add(name) for name in ("one", "two", "three")]
    system.run_until(lambda: all(core.kernel.booted for core in first))
    system.weather = Weather()
    clients = [compresses(system, name) for name in ("one", "two", "three")]
    system.weather = weather
    system.hosts["two"].core.stop(system.now_us)
    system.settle(system.hosts["two"])
    system.run_until(lambda: first[1].effects.exit is not None)
    assert first[1].effects.exit is not None
    assert first[1].effects.exit.code is ExitCode.OK
    system.kill("two")
    fourth = system.add("four")
    system.run_until(lambda: fourth.kernel.booted)
    system.weather = Weather()
    system.pass_time(2 * LEASE_US)
    slots = [core.name for core in (first[0], first[2], fourth)]
    assert sorted(slots) == sorted(set(slots))
    assert {system.hypervisor.hcall.sessions[slot].incarnation for slot in slots} == {
        core.dialer.identity.incarnation for core in (first[0], first[2], fourth)
    }
    works(clients[0])
    system.check_books()


@dataclass(eq=False)
class KillHypervisor(Watcher):
    """Kills it when it takes the `time`th step of this kind for that message, and starts it again."""

    point: Point
    time: int
    seen: int = 0

    def step(self, host: Host, kind: StepKind, message: str) -> None:
        if Point(host.role, kind, message) == self.point:
            self.seen += 1
            if self.seen == self.time:
                self.system.kill(host.name)
                self.system.later(300_000, lambda: self.system.revive("hypervisor"))


TIMES = {
    (StepKind.INPUT, "hello"): 4, (StepKind.TICK, "hello"): 4, (StepKind.COMMIT, "hello"): 4,
    (StepKind.SEND, "welcome"): 4, (StepKind.SENT, "hello"): 4, (StepKind.COMMIT, "bye"): 1, (StepKind.SENT, "bye"): 1,
    (StepKind.COMMIT, "timer"): 1,
}  # fmt: skip
"""The steps, and how often each comes up at least: with each claim, with the one BYE, with the lease that runs out."""
CRASHES = [(Point("hypervisor", *step), time) for step, most in TIMES.items() for time in range(1, most + 1)]


@pytest.mark.parametrize(("point", "time"), CRASHES, ids=lambda value: str(value))
def test_a_crash_at_any_step_of_a_claim_or_a_release_doubles_nothing(point: Point, time: int) -> None:
    """One replica claims, one leaves, one dies and one comes in its place, the hypervisor dies somewhere in between."""
    system = Replicated(7)
    killer = KillHypervisor(point, time)
    killer.system = system
    system.watchers = [Audit(), killer]
    system.watchers[0].system = system
    one, two = system.added("one", "two")
    kept = compresses(system, "one")
    compresses(system, "two")
    system.hosts["two"].core.stop(system.now_us)
    system.settle(system.hosts["two"])
    system.run_until(lambda: two.effects.exit is not None)
    system.kill("two")
    system.added("three")
    compresses(system, "three")
    system.kill("three")
    system.pass_time(LEASE_US + SECOND_US)
    (four,) = system.added("four")
    system.pass_time(2 * LEASE_US)
    assert killer.seen >= time, "it was not killed"
    works(kept)
    sessions = system.hypervisor.hcall.sessions
    assert {one.name, four.name} == {name for name in sessions if name in system.settings.slot_names}
    assert system.spare() == (100, 4)
    system.check_books()
