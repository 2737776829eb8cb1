"""Starts and stops a cluster on this machine: one process for each role, in the background."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.cluster import ClusterError, ClusterFolder, StartStopped, StopForced
from deploy.processes import RUNTIME_OPTION, ClusterProcess, find_processes, stop_processes
from hmc.connection import Console, ConsoleUnreachable
from protocol.console_messages import LparStatus, SystemStatus, UnitStatus
from protocol.system import SettingsError, SystemSettings, Times, parse_system

START_WAIT_S = 20.0
STOP_MARGIN_S = 3.0
"""How much longer than its own deadline a process gets to end: its last words, the close of the ledger."""
STOP_ORDER = ("lpar", "nxunit", "hypervisor")
LOG_TAIL_LINES = 5

Progress = Callable[[str], None]


def sample_system_path() -> Path:
    """The sample system that comes with the project."""
    return Path(__file__).with_name("system.toml")


def never() -> int:
    """No signals are counted: they do what they do without the launcher."""
    return 0


def up(
    folder: ClusterFolder, system_path: Path | None, progress: Progress, stops: Callable[[], int] = never
) -> SystemStatus:
    """Start what is not running and wait until every part is.

    Without a system file: the one that the folder's cluster or kept ledger belongs to, else the sample. `stops` counts
    the signals so far: at the first, what this call has started is stopped in order, at the second at once. Raises
    ClusterError with the log of the part that failed, SettingsError or StartStopped.
    """
    with folder.locked():
        if folder.exists and not find_processes(folder.runtime_folder()):
            folder.remove(keep_ledger=True)
        belongs = folder.exists or folder.ledger_path.exists()
        path = system_path or (folder.system_path if belongs else sample_system_path())
        text = _read(path)
        system = parse_system(text, str(path))
        if belongs and folder.system() != system:
            raise ClusterError(
                f"{folder.path} belongs to another system: leave out -f to go on with it, or end it with "
                f"`vasbus down --dir {folder.path}`"
            )
        if not folder.exists:
            folder.create(text)
        started: dict[str, int] = {}
        try:
            _start_missing(folder, system, progress, started, stops)
            return _wait_until_running(folder, started, progress, stops)
        except _Asked:
            raise _take_back(folder, started, progress, stops) from None


def down(folder: ClusterFolder, progress: Progress, *, keep_ledger: bool, stops: Callable[[], int] = never) -> int:
    """Stop everything, partitions first. Returns how many processes were stopped; 0 where nothing ran.

    `stops` counts the signals so far: the first changes nothing, at the second what still runs is killed. Raises
    StopForced where processes had to be killed; nothing is left then either.
    """
    with folder.locked():
        if not folder.exists:
            folder.remove(keep_ledger=keep_ledger)
            return 0
        grace_s, stopped = _grace_s(folder), 0
        killed: list[str] = []
        for role in STOP_ORDER:
            processes = [process for process in find_processes(folder.runtime_folder()) if process.role == role]
            for process in stop_processes(processes, grace_s, lambda: stops() > 1):
                at = "at the second signal" if stops() > 1 else f"after {grace_s:g} s"
                progress(f"{process.name} did not stop and was killed {at}")
                killed.append(process.name)
            stopped += len(processes)
        folder.remove(keep_ledger=keep_ledger)
        if killed:
            raise StopForced(stopped, killed, at_once=stops() > 1)
        return stopped


def _grace_s(folder: ClusterFolder) -> float:
    """How long a process may take to stop: a partition has `kernel_deadline_ms` to wind up."""
    try:
        times = folder.system().times
    except (SettingsError, ClusterError):
        times = Times()
    return times.kernel_deadline_ms / 1000 + STOP_MARGIN_S


def serve_command(folder: ClusterFolder, role: str, name: str) -> list[str]:
    """The command line of one process of the cluster."""
    who = [role] if role == "hypervisor" else [role, name]
    ledger = ["--ledger", str(folder.ledger_path.absolute())] if role == "hypervisor" else []
    places = ["--system", str(folder.system_path.absolute()), RUNTIME_OPTION, str(folder.runtime_folder())]
    return [sys.executable, "-m", "vasbus", "serve", *who, *ledger, *places]


def _parts(system: SystemSettings) -> list[tuple[str, str]]:
    return [
        ("hypervisor", "hypervisor"),
        *(("nxunit", chip.unit) for chip in system.chip),
        *(("lpar", lpar.name) for lpar in system.lpar),
    ]


class _Asked(Exception):
    """A signal asked for the end."""


def _check(stops: Callable[[], int]) -> None:
    if stops():
        raise _Asked


def _take_back(
    folder: ClusterFolder, started: dict[str, int], progress: Progress, stops: Callable[[], int]
) -> StartStopped:
    """Stop what was started: partitions first, in order, and at once from the second signal on."""
    progress("stopping what was started")
    # Not looked for in /proc: a process that has just been started may not show its command line yet. None of these
    # has been waited for, so each pid still is its own.
    roles = {name: role for role, name in _parts(folder.system())}
    found = [ClusterProcess(pid, roles[name], name) for name, pid in started.items()]
    killed: list[str] = []
    grace_s = _grace_s(folder)
    for role in STOP_ORDER:
        processes = [process for process in found if process.role == role]
        killed += [process.name for process in stop_processes(processes, grace_s, lambda: stops() > 1)]
    if not find_processes(folder.runtime_folder()):
        folder.remove(keep_ledger=True)
    return StartStopped(len(started), killed, at_once=stops() > 1)


def _start_missing(
    folder: ClusterFolder,
    system: SystemSettings,
    progress: Progress,
    started: dict[str, int],
    stops: Callable[[], int],
) -> None:
    """Start what does not run; the pids of the new processes go into `started` by name."""
    running = {process.name for process in find_processes(folder.runtime_folder())}
    for role, name in _parts(system):
        if name not in running:
            _check(stops)
            progress(f"starting {name}")
            started[name] = _spawn(serve_command(folder, role, name), folder.log_path(name))


def _spawn(command: list[str], log_path: Path) -> int:
    """Start a process that outlives this one, in a session of its own."""
    log = (os.POSIX_SPAWN_OPEN, 1, str(log_path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    silence = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    errors = (os.POSIX_SPAWN_DUP2, 1, 2)
    return os.posix_spawn(command[0], command, os.environ, file_actions=[silence, log, errors], setsid=True)


def _wait_until_running(
    folder: ClusterFolder, started: dict[str, int], progress: Progress, stops: Callable[[], int]
) -> SystemStatus:
    deadline = time.monotonic() + START_WAIT_S
    missing: list[str] = []
    progress("waiting for every part")
    with Console(folder.addresses().hmc) as console:
        while time.monotonic() < deadline:
            _check(stops)
            _fail_on_death(folder, started)
            try:
                status = console.system(wait_s=1.0)
            except ConsoleUnreachable:
                continue
            missing = _not_running(status)
            if not missing:
                return status
            time.sleep(0.05)
    names = missing or ["hypervisor"]
    raise ClusterError(f"not running after {START_WAIT_S:g} s: {', '.join(names)}\n{_log_tail(folder, names[0])}")


def _fail_on_death(folder: ClusterFolder, started: dict[str, int]) -> None:
    for name, pid in started.items():
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            raise ClusterError(f"{name} ended with exit code {code} while starting\n{_log_tail(folder, name)}")


def _not_running(status: SystemStatus) -> list[str]:
    parts: list[LparStatus | UnitStatus] = [*status.lpars, *status.units]
    return [part.name for part in parts if part.state != "running" or not part.endpoints]


def _log_tail(folder: ClusterFolder, name: str) -> str:
    path = folder.log_path(name)
    try:
        lines = path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        lines = []
    return "\n".join([f"the end of {path}:", *lines])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the system file {path}: {error}") from None
