"""A local cluster's folder: what it is, where its sockets are, what it logs. Kept in `.vasbus/` or `--dir`."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.processes import find_processes
from protocol.system import Addresses, SystemSettings, local_addresses, parse_system

STATE_FILE = "state.json"
SYSTEM_FILE = "system.toml"
LEDGER_FILE = "ledger.sqlite"
SOCKET_PATH_LIMIT = 107


class ClusterError(Exception):
    """The cluster cannot be started, found or stopped; the text says why and what to do."""


class StartStopped(Exception):
    """A start was stopped by a signal; `at_once`: by a second one. `killed` did not get the time to wind up."""

    def __init__(self, stopped: int, killed: list[str], *, at_once: bool) -> None:
        end = f"; killed: {', '.join(killed)}" if killed else ""
        super().__init__(f"asked to stop before all was running: the {stopped} processes started are stopped{end}")
        self.at_once = at_once


class StopForced(Exception):
    """A cluster was stopped, and not everything of it by itself; `at_once`: because a second signal came."""

    def __init__(self, stopped: int, killed: list[str], *, at_once: bool) -> None:
        why = "at the second signal" if at_once else "because they did not stop in time"
        super().__init__(f"stopped {stopped} processes; killed {why}: {', '.join(killed)}")
        self.at_once = at_once


@dataclass(frozen=True, slots=True)
class ClusterFolder:
    """The files of one local cluster."""

    path: Path

    @property
    def system_path(self) -> Path:
        return self.path / SYSTEM_FILE

    @property
    def ledger_path(self) -> Path:
        return self.path / LEDGER_FILE

    def log_path(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    @property
    def exists(self) -> bool:
        return (self.path / STATE_FILE).exists()

    def runtime_folder(self) -> Path:
        """The short folder of the sockets. Raises ClusterError where no cluster was started."""
        try:
            state = json.loads((self.path / STATE_FILE).read_text())
            return Path(str(state["runtime_folder"]))
        except FileNotFoundError:
            raise ClusterError(f"no cluster in {self.path}: start one with `vasbus up`") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ClusterError(f"{self.path / STATE_FILE} is damaged ({error}): remove {self.path}") from None

    def system(self) -> SystemSettings:
        """The system as it was started. Raises SettingsError or ClusterError."""
        try:
            return parse_system(self.system_path.read_text(), str(self.system_path))
        except FileNotFoundError:
            raise ClusterError(f"no cluster in {self.path}: start one with `vasbus up`") from None

    def addresses(self) -> Addresses:
        return local_addresses(self.system(), str(self.runtime_folder()))

    def metric_urls(self) -> dict[str, str]:
        """Where the running processes serve their metrics, by name. Raises ClusterError where no cluster is."""
        runtime = self.runtime_folder()
        urls: dict[str, str] = {}
        for process in sorted(find_processes(runtime), key=lambda process: process.name):
            try:
                urls[process.name] = metrics_file(runtime, process.name).read_text().strip()
            except FileNotFoundError:
                continue
        return urls

    def create(self, system_text: str) -> None:
        """Make the folder, a runtime folder of its own, and keep the system file."""
        (self.path / "logs").mkdir(parents=True, exist_ok=True)
        runtime = Path(tempfile.mkdtemp(prefix="vasbus-", dir=runtime_base()))
        longest = len(str(runtime)) + 1 + 63 + len(".device")
        if longest > SOCKET_PATH_LIMIT:
            runtime.rmdir()
            raise ClusterError(f"{runtime} is too long for socket paths: set XDG_RUNTIME_DIR to a shorter folder")
        self.system_path.write_text(system_text)
        self._write_state({"runtime_folder": str(runtime)})

    def remove(self, *, keep_ledger: bool) -> None:
        """Remove the sockets, the state and, unless it is kept, the ledger. Logs stay."""
        if self.exists:
            shutil.rmtree(self.runtime_folder(), ignore_errors=True)
            (self.path / STATE_FILE).unlink(missing_ok=True)
        if not keep_ledger:
            for suffix in ("", "-wal", "-shm"):
                self.ledger_path.with_name(LEDGER_FILE + suffix).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One `up` or `down` at a time."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterError(f"another `vasbus up` or `down` is at work in {self.path}") from None
            yield

    def _write_state(self, state: dict[str, str]) -> None:
        fresh = self.path / (STATE_FILE + ".new")
        fresh.write_text(json.dumps(state) + "\n")
        fresh.replace(self.path / STATE_FILE)


def metrics_file(runtime_folder: Path, name: str) -> Path:
    """Where a process writes the URL of its metrics."""
    return runtime_folder / f"{name}.metrics"


def runtime_base() -> str:
    """Where sockets go: the session's runtime folder, else the temporary one."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return base if base and os.access(base, os.W_OK) else tempfile.gettempdir()
