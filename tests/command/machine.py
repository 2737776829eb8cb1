"""A simulated system whose partitions and console commands run on: no processes, no sockets, the real cores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from typing import TypeVar

from hmc.connection import ConsoleRefused
from lpar.client import Lpar
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    ConsoleFailure,
    LparStatus,
    MigratePartition,
    QuerySystem,
    QueryWindows,
    SetEntitlement,
    SetQosCredits,
    SystemStatus,
    WindowRow,
    Windows,
)
from protocol.message import Reply, Request
from protocol.system import parse_system
from tests.system.story import booted
from tests.system.system import ConsoleHost
from vasbus.exec.program import OnConsole, OnPartition, execute
from vasbus.exec.programs import ON_CONSOLE, ON_PARTITION

R = TypeVar("R", bound=Reply)

SYSTEM = """
[system]
name = "frame"
qos_credits = 34

[[chip]]
number = 0
unit = "nx0"
cores = 4

[[chip]]
number = 1
unit = "nx1"
cores = 2

[[lpar]]
name = "lp1"
cores = 2

[[lpar]]
name = "lp2"
cores = 1
home_chip = 1
qos_credits = 22

[[lpar]]
name = "lp3"
mode = "shared"
hundredths = 80
"""
"""2.20 processors and 12 QoS credits are free."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class SimulatedConsole:
    """What hmc.connection.Console does, on the virtual clock. `waits_s` are those that changes were given."""

    host: ConsoleHost
    waits_s: list[float]

    def _ask(self, request: Request, kind: type[R]) -> R:
        reply = self.host.ask(request)
        if isinstance(reply, ConsoleFailure):
            raise ConsoleRefused(reply)
        assert isinstance(reply, kind), reply
        return reply

    def _change(self, request: Request, wait_s: float) -> ConfigurationApplied:
        self.waits_s.append(wait_s)
        return self._ask(request, ConfigurationApplied)

    def system(self) -> SystemStatus:
        return self._ask(QuerySystem(), SystemStatus)

    def windows(self, lpar: str | None = None) -> Iterator[WindowRow]:
        return iter(self._ask(QueryWindows(lpar=lpar), Windows).rows)

    def change_processors(self, lpar: str, cores: int, wait_s: float) -> ConfigurationApplied:
        return self._change(ChangeProcessors(lpar=lpar, cores=cores, wait_ms=int(wait_s * 1000)), wait_s)

    def set_entitlement(self, lpar: str, hundredths: int, wait_s: float) -> ConfigurationApplied:
        return self._change(SetEntitlement(lpar=lpar, hundredths=hundredths, wait_ms=int(wait_s * 1000)), wait_s)

    def set_qos_credits(self, lpar: str, credits: int, wait_s: float) -> ConfigurationApplied:
        return self._change(SetQosCredits(lpar=lpar, credits=credits, wait_ms=int(wait_s * 1000)), wait_s)

    def migrate(self, lpar: str, hold_s: float, wait_s: float) -> ConfigurationApplied:
        request = MigratePartition(lpar=lpar, hold_ms=int(hold_s * 1000), wait_ms=int(wait_s * 1000))
        return self._change(request, wait_s)


class Machine:
    """The system `frame`, up; command lines are split at spaces."""

    def __init__(self, text: str = SYSTEM) -> None:
        self.system = booted(parse_system(text, "frame"), seed=1)
        self.console = SimulatedConsole(self.system.console(), [])
        self._processes: dict[str, Lpar] = {}

    def process(self, lpar: str) -> Lpar:
        """A process on a partition, the same one each time."""
        if lpar not in self._processes:
            self._processes[lpar] = self.system.client(lpar)
        return self._processes[lpar]

    def on(self, lpar: str, line: str) -> Ended:
        """Run a command on a partition."""
        out, err = StringIO(), StringIO()
        place = OnPartition(lpar, self.process(lpar), self.console, out, err)
        code = execute(ON_PARTITION, place, line.split())
        return Ended(code, out.getvalue(), err.getvalue())

    def hmc(self, *line: str) -> Ended:
        """Run a command on the console: a line, or words that may have spaces in them."""
        words = line[0].split() if len(line) == 1 else line
        out, err = StringIO(), StringIO()
        code = execute(ON_CONSOLE, OnConsole(self.console, out, err), words)
        return Ended(code, out.getvalue(), err.getvalue())

    def status(self, lpar: str) -> LparStatus:
        return next(status for status in self.console.system().lpars if status.name == lpar)

    def credits(self, lpar: str, folder: str = "default") -> tuple[int, int]:
        """Total and used credits by the partition's sysfs."""
        path = f"/sys/devices/virtual/misc/vas/vas0/gzip/{folder}_capabilities/nr_{{}}_credits"
        process = self.process(lpar)
        return int(process.read(path.format("total"))), int(process.read(path.format("used")))
