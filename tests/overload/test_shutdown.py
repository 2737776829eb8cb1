"""How processes end when asked to: the first signal drains, the second stops at once; the exit code says which."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.cluster import ClusterFolder
from deploy.launcher import serve_command
from deploy.processes import find_processes
from hmc.connection import Console, ConsoleUnreachable
from lpar.client import KernelFailure, Lpar, MessageRefused, PasteArea, PasteRefused, Request
from protocol.codes import CompletionCode, ExitCode, KernelReason
from protocol.refusals import RefusalCode
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.overload.conftest import SYSTEM
from tests.processes.cluster import eventually

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0
PARTS = (("hypervisor", "hypervisor"), ("nxunit", "nx0"), ("lpar", "lp1"))
LEASE_S = 20.0
TIMES = {"kernel_deadline_ms": 2_000, "lpar_lease_ms": 20_000, "client_lease_ms": 20_000, "fence_ms": 60_000}
"""Leases so long that what a process gives back at its end is not taken for what its lease gives back."""
PASTERS = 6


def with_times(system: str, times: dict[str, int]) -> str:
    """A system file with other times."""
    kept = [line for line in system.splitlines() if line.split(" ")[0] not in times]
    place = kept.index("[times]") + 1
    return "\n".join([*kept[:place], *(f"{key} = {value}" for key, value in times.items()), *kept[place:]])


def no_device(lpar: Lpar) -> bool:
    """Whether the partition opens nothing any more."""
    try:
        lpar.open_device().close()
    except KernelFailure as failure:
        return failure.errno in (errno.ENODEV, errno.ENXIO)
    return False


@dataclass(slots=True)
class Started:
    """A cluster whose processes are children of this one, so that their exit codes are heard."""

    folder: ClusterFolder
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        for role, name in PARTS:
            log = self.folder.log_path(name).open("ab")
            self.processes[name] = subprocess.Popen(serve_command(self.folder, role, name), cwd=ROOT, stderr=log)
            log.close()

    def lpar(self) -> Lpar:
        return Lpar(self.folder.addresses().device["lp1"])

    def is_ready(self) -> bool:
        try:
            with Console(self.folder.addresses().hmc) as console:
                status = console.system(1.0)
        except ConsoleUnreachable:
            return False
        units = [unit.state for unit in status.units if unit.name == "nx0"]
        return [*units, *(lpar.state for lpar in status.lpars if lpar.name == "lp1")] == ["running", "running"]

    def in_use(self) -> int:
        """The credits of lp1 that the hypervisor counts as taken."""
        with Console(self.folder.addresses().hmc) as console:
            (lp1,) = (lpar for lpar in console.system().lpars if lpar.name == "lp1")
        return sum(pool.in_use for pool in lp1.pools)

    def said(self, name: str, event: str) -> bool:
        return event in self.folder.log_path(name).read_text()

    def end(self, name: str, *signals: signal.Signals) -> int:
        """Send signals and wait for the exit code."""
        for number in signals:
            self.processes[name].send_signal(number)
        return self.processes[name].wait(DEADLINE_S)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """A hypervisor, a unit and a partition."""
    folder = ClusterFolder(tmp_path / "cluster")
    folder.create(with_times(SYSTEM, TIMES))
    found = Started(folder)
    try:
        found.start()
        eventually(found.is_ready, "every part runs")
        yield found
    finally:
        for process in found.processes.values():
            process.kill()
            process.wait()
        folder.remove(keep_ledger=False)


@failure(
    "shutdown",
    "every process is asked to stop, partitions first",
    seen="Nothing new begins; what is under way finishes.",
    lasts="As long as what is under way takes.",
    kept="What was under way; no credit stays with a partition that took its leave.",
)
def test_each_role_drains_at_the_first_signal_and_exits_with_0(started: Started, figure: Figure) -> None:
    with started.lpar() as lpar:
        areas = [lpar.open_window().map() for _ in range(PASTERS)]
        pending = [area.paste(Request(0, b"under way " * 50_000, 600_000)) for area in areas]
        assert started.in_use() == PASTERS
        began = time.monotonic()
        assert started.end("lp1", signal.SIGTERM) == ExitCode.OK
        assert started.in_use() == 0, "the credits are back before the process has ended"
        assert time.monotonic() - began < LEASE_S / 2
        assert [paste.wait(10).code for paste in pending] == [CompletionCode.OK] * PASTERS, "all that was accepted"
    assert started.end("nx0", signal.SIGTERM) == ExitCode.OK
    assert started.end("hypervisor", signal.SIGTERM) == ExitCode.OK
    figure("three processes, one after the other", time.monotonic() - began, "s")


@failure(
    "shutdown",
    "an NX unit is asked to stop while requests come",
    seen="Pastes are refused, as by a unit that is busy: software takes over, or the window waits.",
    lasts="Until the unit is started again.",
    kept="Every request that was accepted: it is completed before the unit ends.",
)
def test_a_unit_that_stops_completes_what_it_has_accepted_and_takes_no_more(started: Started) -> None:
    completed: list[CompletionCode] = []
    request = Request(0, os.urandom(200_000).hex().encode(), 600_000)

    def until_refused(area: PasteArea) -> bool:
        while True:
            try:
                pending = area.paste(request)
            except PasteRefused:
                return True
            completed.append(pending.wait(10).code)

    with started.lpar() as lpar, ThreadPoolExecutor(PASTERS) as beside:
        pasters = [beside.submit(until_refused, lpar.open_window().map()) for _ in range(PASTERS)]
        eventually(lambda: len(completed) > 3 * PASTERS, "all of them paste")
        assert started.end("nx0", signal.SIGTERM) == ExitCode.OK
        assert all(paster.result(DEADLINE_S) for paster in pasters), "each was told, none waits for a lost request"
    assert set(completed) == {CompletionCode.OK}


@failure(
    "shutdown",
    "a process opens a window, or comes to life, on a partition that is shutting down",
    seen="Opens of the device end with ENODEV (`no_device`); a new process is refused (`draining`).",
    lasts="Until the partition is started again.",
    kept="What is open already: its requests are completed.",
)
def test_a_partition_that_stops_turns_opens_and_new_processes_away_by_name(started: Started) -> None:
    with started.lpar() as lpar:
        window = lpar.open_window()
        window.map()
        started.processes["hypervisor"].send_signal(signal.SIGSTOP)
        started.processes["lp1"].send_signal(signal.SIGTERM)
        eventually(lambda: no_device(lpar), "opens are turned away")
        with pytest.raises(KernelFailure) as failed:
            lpar.open_device()
        assert failed.value.reason is KernelReason.NO_DEVICE
        began = time.monotonic()
        with pytest.raises(MessageRefused) as refused:
            started.lpar()
        assert refused.value.code is RefusalCode.DRAINING
        assert time.monotonic() - began < 1
        assert started.processes["lp1"].poll() is None, "it is winding up"


@failure(
    "shutdown",
    "a partition is asked to stop while its hypervisor does not answer",
    seen="Exit code 31, and what was left behind.",
    lasts="The kernel's deadline (`times.kernel_deadline_ms`).",
    kept="Its credits: they are back when its lease has run out.",
)
def test_a_partition_that_cannot_wind_up_says_so_by_its_exit_code(started: Started) -> None:
    with started.lpar() as lpar:
        lpar.open_window()
        started.processes["hypervisor"].send_signal(signal.SIGSTOP)
        assert started.end("lp1", signal.SIGTERM) == ExitCode.UNFINISHED


def test_the_second_signal_stops_a_partition_at_once(started: Started) -> None:
    with started.lpar() as lpar:
        lpar.open_window()
        started.processes["hypervisor"].send_signal(signal.SIGSTOP)
        lp1 = started.processes["lp1"]
        lp1.send_signal(signal.SIGTERM)
        eventually(lambda: no_device(lpar), "opens are turned away")
        assert lp1.poll() is None, "it is winding up"
        assert started.end("lp1", signal.SIGTERM) == ExitCode.STOPPED_AT_ONCE


def test_two_signals_stop_a_unit_that_waits_for_its_hypervisor(started: Started) -> None:
    with started.lpar() as lpar:
        lpar.open_window().close()
        started.processes["hypervisor"].send_signal(signal.SIGSTOP)
        nx0 = started.processes["nx0"]
        nx0.send_signal(signal.SIGTERM)
        eventually(lambda: started.said("nx0", "unit_stopping"), "it winds up")
        assert started.end("nx0", signal.SIGTERM) == ExitCode.STOPPED_AT_ONCE


def test_two_signals_that_come_together_stop_a_hypervisor_at_once(started: Started) -> None:
    with started.lpar() as lpar:
        lpar.open_window().close()
    hypervisor = started.processes["hypervisor"]
    hypervisor.send_signal(signal.SIGSTOP)
    hypervisor.send_signal(signal.SIGTERM)
    hypervisor.send_signal(signal.SIGINT)
    hypervisor.send_signal(signal.SIGCONT)
    assert hypervisor.wait(DEADLINE_S) == ExitCode.STOPPED_AT_ONCE


# `vasbus up`.


def up(tmp_path: Path) -> tuple[ClusterFolder, subprocess.Popen[str]]:
    """A start under way, with nobody waiting for it."""
    system = tmp_path / "system.toml"
    system.write_text(SYSTEM)
    folder = ClusterFolder(tmp_path / "cluster")
    command = [sys.executable, "-m", "vasbus", "up", "-f", str(system), "--dir", str(folder.path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return folder, process


def ends_when_asked_again(process: subprocess.Popen[str]) -> bool:
    process.send_signal(signal.SIGTERM)
    return process.poll() is not None


def pid_of(folder: ClusterFolder, name: str) -> int:
    if not folder.exists:
        return 0
    return next((found.pid for found in find_processes(folder.runtime_folder()) if found.name == name), 0)


@failure(
    "shutdown",
    "`vasbus up` is asked to stop before all is running",
    seen="Exit code 32; at the second signal 30, and whom it killed.",
    lasts="As long as what it has started takes to stop; at the second signal no time.",
    kept="No process and no socket stays behind; the ledger is kept.",
)
@pytest.mark.parametrize(
    ("signals", "code"), [(1, ExitCode.INTERRUPTED), (2, ExitCode.STOPPED_AT_ONCE)], ids=["once", "twice"]
)
def test_up_that_is_asked_to_stop_takes_back_what_it_has_started(tmp_path: Path, signals: int, code: ExitCode) -> None:
    folder, process = up(tmp_path)
    try:
        eventually(lambda: pid_of(folder, "nx0") > 0, "the unit has been started")
        runtime = folder.runtime_folder()
        os.kill(pid_of(folder, "nx0"), signal.SIGSTOP)  # so that not all will be running
        if signals > 1:
            booted = folder.log_path("lp1")
            eventually(lambda: booted.exists() and '"booted"' in booted.read_text(), "the partition has a session")
            os.kill(pid_of(folder, "hypervisor"), signal.SIGSTOP)  # so that the partition cannot take its leave of it
        process.send_signal(signal.SIGTERM)
        if signals > 1:
            eventually(lambda: ends_when_asked_again(process), "a second one ends it")
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == code, output
        assert "asked to stop before all was running" in output
        assert not find_processes(runtime)
        assert not runtime.exists()
    finally:
        process.kill()
        process.communicate()
        for found in find_processes(folder.runtime_folder()) if folder.exists else []:
            os.kill(found.pid, signal.SIGKILL)
