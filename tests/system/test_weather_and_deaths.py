"""A life under a network that loses, repeats and delays, with processes that die at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

import pytest

from lpar.client import ClientError, Lpar, NxGzip, Request, Window
from protocol.codes import CompletionCode, FunctionCode
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    MigratePartition,
    SetEntitlement,
    SetQosCredits,
)
from protocol.system import SystemSettings, parse_system
from tests.processes.cluster import SYSTEM
from tests.system.expected_errors import is_expected
from tests.system.story import booted, settle_and_compare
from tests.system.system import System, Weather

DATA = b"a partition's bytes, over and over " * 300
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))
STORM = Weather(loss=0.1, repeat=0.1, late=0.1)
ACTS = (
    "client", "open", "open", "open", "close", "run", "run", "gzip", "cores", "share", "qos", "migrate", "die", "rest",
)  # fmt: skip
"""What may happen, as often as it stands here."""
TURN_US = 2_000
"""How long a server reads on in every other life, so that several messages share a commit (links.py)."""
SHARED_HUNDREDTHS = 100
"""lp3's at the end: a credit for each of its processes."""


@dataclass(eq=False)
class Process:
    """A client process with its windows, each with whether its credit is QoS, and its accelerator."""

    lpar: Lpar
    partition: str
    nx: NxGzip
    windows: list[tuple[Window, bool]] = field(default_factory=list)


@pytest.fixture
def settings() -> SystemSettings:
    return parse_system(SYSTEM, "test system")


@pytest.mark.parametrize("seed", range(40))
def test_bad_weather_and_deaths_leave_nothing_lost_and_nothing_doubled(settings: SystemSettings, seed: int) -> None:
    weather_and_deaths(settings, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_storms_leave_nothing_lost_and_nothing_doubled(settings: SystemSettings) -> None:
    for seed in range(1000, 2000):
        weather_and_deaths(settings, seed)


def weather_and_deaths(settings: SystemSettings, seed: int) -> None:
    """A life in bad weather; afterwards everything tells the same story, what survived works, and nothing is left."""
    system = booted(settings, seed, turn_us=TURN_US * (seed % 2))
    random = Random(seed)
    system.weather = STORM
    processes: list[Process] = []
    for _ in range(30):
        act(system, random, processes)
    for name in system.servers:
        system.revive(name)
    settle_and_compare(system)
    give_back(system)
    settle_and_compare(system)
    for process in processes:
        if process.lpar.is_alive:
            works_on_the_accelerator(process, random.randbytes(500) * 20)
    settle_and_compare(system)
    for process in processes:
        process.lpar.close()
    settle_and_compare(system)
    assert not system.hypervisor.ledger.windows


def give_back(system: System) -> None:
    """Every partition has the processors of its settings again, so that closed windows come back."""
    ledger = system.hypervisor.ledger
    lacking = {lpar.name: lpar.cores - ledger.partitions[lpar.name].cores for lpar in system.settings.lpar}
    for lpar in sorted(system.settings.lpar, key=lambda lpar: lacking[lpar.name]):
        changes: list[ChangeProcessors | SetEntitlement | SetQosCredits] = [
            SetQosCredits(lpar=lpar.name, credits=0, wait_ms=60_000)
        ]
        partition = ledger.partitions[lpar.name]
        if lpar.cores and partition.cores != lpar.cores:
            cores = lpar.cores - partition.cores
            changes.append(ChangeProcessors(lpar=lpar.name, cores=cores, wait_ms=60_000))
        elif not lpar.cores:
            changes.append(SetEntitlement(lpar=lpar.name, hundredths=SHARED_HUNDREDTHS, wait_ms=60_000))
        for change in changes:
            applied = system.console().ask(change)
            assert isinstance(applied, ConfigurationApplied), (change, applied)


def works_on_the_accelerator(process: Process, data: bytes) -> None:
    """One window that the process had opened works as ever, and gzip needs no software."""
    window = next((window for window, qos in process.windows if not qos), None)
    for other, _ in process.windows:
        if other is not window:
            other.close()
    if window is not None:
        assert window.run(REQUEST).code is CompletionCode.OK
        window.close()
    process.windows.clear()
    before = process.nx.statistics()
    assert process.nx.decompress(process.nx.compress(data)) == data
    after = process.nx.statistics()
    for was, came in ((before.compress, after.compress), (before.decompress, after.decompress)):
        assert came.fallback == was.fallback, f"software did what the accelerator of {process.partition} was to do"


def act(system: System, random: Random, processes: list[Process], spared: str = "") -> None:
    """One thing that a user, an administrator or fate does; `spared` does not die. Raises what may not happen."""
    try:
        match random.choice(ACTS):
            case "client":
                partition = random.choice(system.settings.lpar).name
                lpar = system.client(partition)
                nx = NxGzip(lpar, small_bytes=0, paging=lambda request: paged_out(random, request))
                processes.append(Process(lpar, partition, nx))
            case "open" if processes:
                process = random.choice(processes)
                for _ in range(random.randint(1, 8)):
                    qos = random.random() < 0.3
                    process.windows.append((process.lpar.open_window(qos=qos), qos))
            case "close" if processes:
                windows = random.choice(processes).windows
                if windows:
                    windows.pop(random.randrange(len(windows)))[0].close()
            case "run" if processes:
                windows = random.choice(processes).windows
                if windows:
                    random.choice(windows)[0].run(paged_out(random, REQUEST), timeout=2.0)
            case "gzip" if processes:
                nx = random.choice(processes).nx
                assert nx.decompress(nx.compress(DATA)) == DATA
            case "cores":
                change = ChangeProcessors(
                    lpar=random.choice(("lp1", "lp2")), cores=random.choice((-1, 1)), wait_ms=3_000
                )
                system.console().ask(change)
            case "share":
                system.console().ask(SetEntitlement(lpar="lp3", hundredths=random.randint(5, 60), wait_ms=3_000))
            case "qos":
                name = random.choice(system.settings.lpar).name
                system.console().ask(SetQosCredits(lpar=name, credits=random.randint(0, 8), wait_ms=3_000))
            case "migrate":
                name = random.choice(system.settings.lpar).name
                system.console().ask(MigratePartition(lpar=name, hold_ms=random.choice((0, 500)), wait_ms=3_000))
            case "die":
                die(system, random, processes, spared)
            case _:
                system.pass_time(random.randint(1, 3_000_000))
    except (OSError, ClientError) as error:
        if not is_expected(error):
            raise


def paged_out(random: Random, request: Request) -> Request:
    """The request with some of its pages absent, sometimes."""
    if random.random() < 0.6:
        return request
    return replace(
        request,
        absent_source=frozenset(page for page in range(request.source_page_count) if random.random() < 0.5),
        absent_target=frozenset(page for page in range(request.target_page_count) if random.random() < 0.3),
        csb_present=random.random() < 0.9,
    )


def die(system: System, random: Random, processes: list[Process], spared: str) -> None:
    """A process is killed; all but clients come back after a while."""
    name = random.choice([*(name for name in system.servers if name != spared), "client"])
    if name == "client":
        if processes:
            processes.pop(random.randrange(len(processes))).lpar.close()
        return
    if name in system.hosts:
        system.kill(name)
        system.later(random.randint(1_000, 4_000_000), lambda: system.revive(name))
