"""A life of a whole system in which every kind of thing happens once or more, and what each process may count on.

Each act brings something about: it looks at what there is and does what is missing, so that it also makes sense after
a process was killed. An act may fail only where that death explains it: a process that was killed, a partition's
processes with their partition, an operation of a console that was killed or whose partition was. Everyone else is a
survivor and must not notice more than a delay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import UnionType

from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    ConsoleFailure,
    HoldChanged,
    HoldNotifications,
    MigratePartition,
    QuerySystem,
    QueryWindows,
    SetEntitlement,
    SetQosCredits,
    SystemStatus,
    Windows,
)
from protocol.message import Reply
from protocol.message import Request as Message
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from protocol.system import SystemSettings, parse_system
from tests.system.actors import ProcessKilled
from tests.system.programs import Programs, Worker

CHANGE_WAIT_MS = 5_000
ARRIVAL_US = 1_000
DONE = ConfigurationApplied | SystemStatus | Windows | HoldChanged
"""What the console is told where nothing went wrong."""
SYSTEM = """
[system]
name = "crash"
credits_per_core = 3

[times]
beat_ms = 200
suspect_ms = 600
lpar_lease_ms = 1500
client_lease_ms = 500
fence_ms = 6000

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

[[lpar]]
name = "lp2"
cores = 1
home_chip = 1
qos_credits = 1

[[lpar]]
name = "lp3"
mode = "shared"
hundredths = 100
"""


def crash_system() -> SystemSettings:
    """Small pools, so that each act is short: six credits, two and one of QoS, three."""
    return parse_system(SYSTEM, "crash points")


@dataclass
class Workload(Programs):
    """The acts on one system. `cores`: what each partition may have by now; several values where nobody heard it."""

    cores: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workers = {name: Worker(lpar) for name, lpar in (("a", "lp1"), ("b", "lp2"), ("c", "lp3"), ("d", "lp1"))}
        self.workers["q"] = Worker("lp2", qos=True)
        self.cores = {lpar.name: {lpar.cores} for lpar in self.system.settings.lpar}

    def run(self) -> None:
        """Everything, in order."""
        for act in self.acts():
            act()

    def acts(self) -> list[Callable[[], None]]:
        def hold(name: str, count: int) -> Callable[[], None]:
            return lambda: self.hold(name, count)

        return [
            hold("a", 4), hold("b", 1), hold("q", 1), hold("c", 2), hold("d", 2),
            lambda: self.paste("a"), lambda: self.paste("q"), lambda: self.paste("c"),
            lambda: self.fault("a"), lambda: self.fault("q"),
            lambda: self.read("a"), lambda: self.closes("a"), hold("a", 4),
            lambda: self.closes_busy("a"), hold("a", 4), lambda: self.too_many_cores("lp1"),
            lambda: self.processors("lp1", -1), lambda: self.refused_paste("d"), lambda: self.processors("lp1", 1),
            lambda: self.paste("d"),
            lambda: self.entitlement("lp3", 60), lambda: self.entitlement("lp3", 100),
            lambda: self.writes_entitlement("c", 100),
            lambda: self.qos("lp2", 0), lambda: self.qos("lp2", 2), lambda: self.qos("lp2", 1), hold("q", 1),
            lambda: self.migrate("lp1", 0), lambda: self.paste("a"), lambda: self.migrate("lp2", 30),
            lambda: self.over_the_limit("b"), self.looks,
            lambda: self.goes("d"), hold("d", 1), lambda: self.leaves("d"), hold("d", 2),
            lambda: self.is_ended("d"), hold("d", 2),
            lambda: self.dies("hypervisor"), lambda: self.paste("a"), hold("b", 2), lambda: self.fault("c"),
            lambda: self.dies("nx0"), lambda: self.paste("a"), lambda: self.paste("d"), hold("b", 1),
            lambda: self.dies("lp3"), lambda: self.processors("lp1", -1), lambda: self.processors("lp1", 1),
            hold("c", 2), lambda: self.paste("c"), lambda: self.paste("b"),
        ]  # fmt: skip

    # What administrators and fate do.

    def processors(self, lpar: str, cores: int) -> None:
        """DLPAR. Who does not hear whether it was done looks, and asks again for what was not."""
        possible = self.cores[lpar]
        reply = self._ask(lpar, ChangeProcessors(lpar=lpar, cores=cores, wait_ms=CHANGE_WAIT_MS))
        changed = {before + cores for before in possible}
        self.cores[lpar] = changed if isinstance(reply, ConfigurationApplied) else possible | changed
        if isinstance(reply, ProcessKilled):
            self._look_again(lpar)
            if not self.cores[lpar] <= changed:
                self.processors(lpar, cores)

    def too_many_cores(self, lpar: str) -> None:
        """More cores are asked for than there are: nothing changes."""
        reply = self._ask_on(lpar, ChangeProcessors(lpar=lpar, cores=100, wait_ms=CHANGE_WAIT_MS), ConsoleFailure)
        assert isinstance(reply, ConsoleFailure), reply

    def _look_again(self, lpar: str) -> None:
        """How many cores a partition has, once what a console said before its death has arrived."""
        self.system.pass_time(ARRIVAL_US)
        found = next(status.cores for status in self.status().lpars if status.name == lpar)
        assert found in self.cores[lpar], f"{lpar} has {found} cores, expected one of {self.cores[lpar]}"
        self.cores[lpar] = {found}

    def entitlement(self, lpar: str, hundredths: int) -> None:
        self._ask_on(lpar, SetEntitlement(lpar=lpar, hundredths=hundredths, wait_ms=CHANGE_WAIT_MS))

    def qos(self, lpar: str, credits: int) -> None:
        self._ask_on(lpar, SetQosCredits(lpar=lpar, credits=credits, wait_ms=CHANGE_WAIT_MS))

    def migrate(self, lpar: str, hold_ms: int) -> None:
        self._ask_on(lpar, MigratePartition(lpar=lpar, hold_ms=hold_ms, wait_ms=CHANGE_WAIT_MS))

    def dies(self, name: str) -> None:
        """A server is killed and comes back; a partition's programs notice with their next call."""
        if name in self.system.hosts:
            self.system.kill(name)
            for worker in self.workers.values():
                if worker.lpar == name:
                    self._gone(worker)
        self.system.later(50_000, lambda: self.system.revive(name))
        self.system.pass_time(20_000)

    def looks(self) -> None:
        """Somebody looks at the whole system and tries the console's test aid."""
        self.status()
        self._ask_on("", QueryWindows())
        for hold in (True, False):
            self._ask_on("lp2", HoldNotifications(lpar="lp2", hold=hold))

    def status(self) -> SystemStatus:
        reply = self._ask_on("", QuerySystem())
        assert isinstance(reply, SystemStatus), reply
        return reply

    # Commands.

    def _ask_on(self, lpar: str, request: Message, expected: type[Reply] | UnionType = DONE) -> object:
        """A command that may be given twice: another console gives it again where the first was killed."""
        reply = self._ask(lpar, request, expected)
        return self._ask_on(lpar, request, expected) if isinstance(reply, ProcessKilled) else reply

    def _ask(self, lpar: str, request: Message, expected: type[Reply] | UnionType = DONE) -> object:
        """A console's command: the answer, or how the console died before it had one."""
        console = self.system.console()
        try:
            reply: object = console.ask(request)
        except ProcessKilled as killed:
            reply = killed
        if isinstance(reply, Refused) and reply.code is RefusalCode.SESSION_DEAD and len(self.victims) > 1:
            # This system's lease of consoles is shorter than the silence that they endure: two deaths may outlast it.
            reply = ProcessKilled(console.host.name)
            console.close()
            return reply
        as_expected = isinstance(reply, expected)
        assert as_expected or self.explains(lpar, console.host.name), f"{request}: {reply}"
        console.close()
        return reply
