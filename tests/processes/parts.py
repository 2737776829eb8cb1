"""A hypervisor and its NX units as processes, without partitions: tests are the partitions."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.cluster import ClusterFolder
from deploy.launcher import serve_command
from hmc.connection import Console

LOG_TAIL = 3_000
WAIT_S = 60.0


@dataclass
class Processes:
    """A hypervisor and its units."""

    folder: ClusterFolder
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, role: str, name: str, *python: str) -> None:
        """Start one; `python` is what to run in place of the installed command, with the same arguments."""
        words = serve_command(self.folder, role, name)
        command = [words[0], *(python or words[1:3]), *words[3:], "--metrics", "off"]
        with self.folder.log_path(name).open("ab") as log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def ending(self, name: str) -> int:
        """Wait for one to end by itself; its exit code."""
        return self.running.pop(name).wait(WAIT_S)

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()


@contextmanager
def processes(path: Path, system: str) -> Iterator[Processes]:
    """The hypervisor and every unit of a system file's text; where the test fails, the hypervisor's last words."""
    folder = ClusterFolder(path)
    folder.create(system)
    started = Processes(folder)
    try:
        started.start("hypervisor", "hypervisor")
        for chip in folder.system().chip:
            started.start("nxunit", chip.unit)
        yield started
    except BaseException:
        print(folder.log_path("hypervisor").read_text()[-LOG_TAIL:])
        raise
    finally:
        for name in list(started.running):
            started.kill(name)
        folder.remove(keep_ledger=False)


def settled(folder: ClusterFolder) -> bool:
    """Whether both units are known to the hypervisor, with what they hold."""
    with Console(folder.addresses().hmc) as console:
        status = console.system()
    return not status.recovering and all(unit.state == "running" for unit in status.units)
