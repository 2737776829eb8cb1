"""Stories that say everything there is to say on the links, and what is left when they are over.

Each does one thing after the other, so that the same generations are applied in the same order whatever the network
does meanwhile. What callers are told is noted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hmc.requests import ConsoleRequests
from lpar.client import ClientError, Lpar, Request, Window
from lpar.client.tasks import Task
from lpar.client.window import run_on_window
from protocol.codes import CreditType, FunctionCode
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    HoldNotifications,
    MigratePartition,
    QuerySystem,
    QueryWindows,
    SetEntitlement,
    SetQosCredits,
    SystemStatus,
)
from protocol.device_messages import UpdateCsb
from protocol.dialer import Identity
from protocol.fabric_messages import ListContexts
from protocol.hcall_messages import HQueryVasWindow
from protocol.message import Request as Question
from protocol.paste_messages import CsbBody
from protocol.session_messages import Beat
from tests.system.actors import ClientHost, ConsoleHost
from tests.system.network import FaultyNetwork
from tests.system.story import is_up

SETTINGS = """
[system]
name = "network"
credits_per_core = 3

[[chip]]
number = 0
unit = "nx0"
cores = 3
fifo_depth = 1

[[chip]]
number = 1
unit = "nx1"
cores = 2

[[lpar]]
name = "lp1"
cores = 2
home_chip = 0

[[lpar]]
name = "shared"
mode = "shared"
hundredths = 70
home_chip = 1

[[lpar]]
name = "greedy"
cores = 1
home_chip = 1
bad_citizen = true
"""
DATA = b"bytes that every partition compresses, " * 50
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))
PAGED_OUT = replace(REQUEST, absent_source=frozenset({0}))
NOWHERE = replace(REQUEST, csb_address=0)
PATIENCE_S = 60.0
WAIT_MS = 60_000
LONG_JOB_US = 20_000
LPARCFG = "/proc/powerpc/lparcfg"


@dataclass
class World:
    """A system, those who speak in it, and what they were told."""

    system: FaultyNetwork
    told: list[object] = field(default_factory=list)
    windows: dict[str, list[Window]] = field(default_factory=lambda: defaultdict(list))

    def client(self, lpar: str) -> Lpar:
        return self.system.client(lpar, PATIENCE_S)

    def note(self, ask: Callable[[], object]) -> Any:
        """Do something and note what came of it: a value, or how it failed."""
        try:
            answer = ask()
        except (OSError, ClientError) as failure:
            self.told.append((type(failure).__name__, str(failure)))
            return None
        self.told.append(without_time(answer))
        return answer

    def ask(self, console: ConsoleHost, question: Question) -> Any:
        return self.note(lambda: console.ask(question))

    def open(self, client: Lpar, lpar: str, **how: Any) -> Window | None:
        window: Window | None = None

        def opened() -> int:
            nonlocal window
            window = client.open_window(**how)
            window.map()
            return window.window_id

        self.note(opened)
        if window is not None:
            self.windows[lpar].append(window)
        return window

    def run_together(self, client: Lpar, windows: list[Window]) -> None:
        """One request on each window, all at the same time, each tried until it gets through."""
        host = client.driver
        assert isinstance(host, ClientHost)
        tasks = [Task(run_on_window(window._state, REQUEST, int(PATIENCE_S * 1e6))) for window in windows]
        for task in tasks:
            host.core.submit(task, self.system.now_us)
            self.system.settle(host.host)
        self.system.run_until(lambda: all(task.done for task in tasks))
        self.told += [without_time(task.outcome()) for task in tasks]

    def intruder(self, endpoint: str, role: str, name: str) -> None:
        """Somebody who claims a name; gone when he has been refused twice or for good."""
        entropy = self.system.random.randbytes
        core = ConsoleRequests(endpoint, Identity(role, name, entropy(16), "local", 1, {}), entropy)
        host = self.system.start(role, f"intruder-{self.system.next_pid()}", core, {})
        until_us = self.system.now_us + 800_000
        self.system.run_until(lambda: core.ended is not None or self.system.now_us > until_us)
        self.system.kill(host.name)

    def stop(self, name: str) -> None:
        """SIGTERM, and a new process of the same name when the old one has exited."""
        core = self.system.hosts[name].core
        core.stop(self.system.now_us)
        self.system.settle(self.system.hosts[name])
        self.system.run_until(lambda: core.effects.exit is not None)
        self.system.kill(name)
        self.system.pass_time(1_000)
        self.system.revive(name)
        self.system.run_until(lambda: is_up(self.system))


class Asked:
    """A question of a console of its own, whose answer is waited for later."""

    def __init__(self, world: World, question: Question) -> None:
        self.world = world
        self.console = world.system.console()
        core: ConsoleRequests = self.console.host.core
        self.core = core
        self.number = core.ask(question, world.system.now_us)
        world.system.settle(self.console.host)
        queues = world.system.hypervisor.configurations.queues
        world.system.run_until(lambda: any(queues.values()))

    def answered(self) -> None:
        self.world.system.run_until(lambda: self.number in self.core.answers)
        self.world.told.append(without_time(self.core.answers[self.number]))


def windows_and_faults(world: World) -> None:
    """Windows of both types, requests side by side, absent pages, a process that a signal ends."""
    system, console = world.system, world.system.console()
    world.ask(console, SetQosCredits(lpar="lp1", credits=1, wait_ms=WAIT_MS))
    client = world.client("lp1")
    for how in ({"vas_id": 0}, {}, {}, {"qos": True}, {"qos": True}):
        world.open(client, "lp1", **how)
    windows = world.windows["lp1"]
    world.note(lambda: windows[0].run(REQUEST).code)
    csb = world.note(lambda: windows[1].run(PAGED_OUT))
    world.note(lambda: windows[1].run(PAGED_OUT.touched(csb.fault_address)).code)
    system.job_us = LONG_JOB_US
    world.run_together(client, windows)
    area = windows[2].area
    assert area is not None
    world.note(lambda: area.paste(REQUEST) is not None)
    world.note(windows.pop(2).close)
    system.job_us = 300
    victim = world.client("lp1")
    doomed = world.open(victim, "lp1")
    if doomed is not None:
        world.note(lambda: doomed.run(NOWHERE))
        world.windows["lp1"].remove(doomed)
    system.run_until(lambda: system.hypervisor.ledger.in_use("lp1", CreditType.DEFAULT) == 2)
    world.note(victim.reconnect)
    world.open(victim, "lp1")


def credits_come_and_go(world: World) -> None:
    """Processors, entitlements and QoS credits change; windows close and come back."""
    console = world.system.console()
    client, shared = world.client("lp1"), world.client("shared")
    for _ in range(6):
        world.open(client, "lp1")
    world.open(client, "lp1")
    world.open(shared, "shared")
    world.ask(console, ChangeProcessors(lpar="lp1", cores=-1, wait_ms=WAIT_MS))
    area = world.windows["lp1"][5].area
    assert area is not None
    world.note(lambda: area.paste(REQUEST))
    world.ask(console, HoldNotifications(lpar="lp1", hold=True))
    raised = Asked(world, ChangeProcessors(lpar="lp1", cores=1, wait_ms=WAIT_MS))
    world.ask(console, QuerySystem())
    world.ask(console, HoldNotifications(lpar="lp1", hold=False))
    raised.answered()
    world.note(lambda: world.windows["lp1"][5].run(REQUEST).code)
    world.ask(console, ChangeProcessors(lpar="lp1", cores=99, wait_ms=WAIT_MS))
    world.ask(console, SetEntitlement(lpar="shared", hundredths=40, wait_ms=WAIT_MS))
    world.note(lambda: shared.write(LPARCFG, "partition_entitled_capacity=60"))
    world.note(lambda: shared.read(LPARCFG))
    world.ask(console, SetQosCredits(lpar="lp1", credits=2, wait_ms=WAIT_MS))
    world.ask(console, ChangeProcessors(lpar="lp1", cores=-1, wait_ms=WAIT_MS))
    world.ask(console, QueryWindows())


def migrations(world: World) -> None:
    """One partition migrates; another keeps its windows, so that its migration is cancelled."""
    console = world.system.console()
    client, greedy = world.client("lp1"), world.client("greedy")
    for _ in range(3):
        world.open(client, "lp1")
    world.open(greedy, "greedy")
    world.ask(console, MigratePartition(lpar="lp1", hold_ms=300, wait_ms=WAIT_MS))
    world.note(lambda: world.windows["lp1"][1].run(REQUEST).code)
    world.ask(console, MigratePartition(lpar="greedy", hold_ms=0, wait_ms=WAIT_MS))
    world.note(lambda: world.windows["greedy"][0].run(REQUEST).code)


def out_of_place(world: World, window: Window) -> None:
    """Intruders at every link, a question that Linux does not ask, and answers to nobody's questions."""
    system, addresses = world.system, world.system.addresses
    kernel, hypervisor = system.kernel("lp1"), system.hypervisor
    for endpoint, role, name in (
        (addresses.hcall, "lpar", "lp1"), (addresses.fabric, "nxunit", "nx0"), (addresses.hmc, "lpar", "somebody"),
        (addresses.device["lp1"], "hmc", "somebody"),
    ):  # fmt: skip
        world.intruder(endpoint, role, name)
    session = hypervisor.fabric.sessions["nx0"]
    hypervisor.fabric.send(session, ListContexts(above=0))
    system.settle(system.hosts["hypervisor"])
    process = next(iter(kernel.listener.sessions.values()))
    body = CsbBody(code=0, extension=0, processed_bytes=0, target_bytes=0, crc32=0, adler32=0)
    kernel.listener.send(process, UpdateCsb(csb_address=1, csb=body))
    kernel.dialer.call(kernel.dialer.session, HQueryVasWindow(window_id=window.window_id), system.now_us)
    system.settle(system.hosts["lp1"])


def sessions(world: World) -> None:
    """Intruders, messages out of place, processes that leave and come back, questions that Linux does not ask."""
    system = world.system
    client = world.client("lp1")
    window = world.open(client, "lp1")
    assert window is not None
    kernel, hypervisor = system.kernel("lp1"), system.hypervisor
    out_of_place(world, window)
    world.note(lambda: window.run(REQUEST).code)
    host = client.driver
    assert isinstance(host, ClientHost)
    system.unreadable(host.host, next(key for key in host.host.connections if key.startswith("paste:")))
    system.run_until(lambda: not kernel.dialer.session.caller.outstanding)
    console = system.console()
    world.ask(console, QuerySystem())
    for beating in (host.host, console.host):
        # Neither lives by beats; both are answered all the same.
        dialer = beating.core.dialer
        dialer.send(dialer.session, Beat(sequence=1))
        system.settle(beating)
    system.pass_time(10_000)
    console.host.core.dialer.say_bye()
    system.settle(console.host)
    system.run_until(lambda: console.host.core.dialer.ended)
    world.stop("nx0")
    world.note(lambda: window.run(REQUEST).code)
    host.core.dialer.say_bye()
    system.settle(host.host)
    system.run_until(lambda: host.core.dialer.ended)
    client.close()
    system.run_until(lambda: not hypervisor.ledger.windows)
    world.windows.clear()
    world.stop("lp1")
    world.open(world.client("lp1"), "lp1")


Story = Callable[[World], None]
STORIES: dict[str, Story] = {
    story.__name__: story for story in (windows_and_faults, credits_come_and_go, migrations, sessions)
}


def without_time(answer: object) -> object:
    """An answer without what the network's speed, processes' secrets or numbers of messages make of it."""
    if isinstance(answer, ConfigurationApplied):
        return answer.model_copy(update={"elapsed_us": 0})
    if isinstance(answer, SystemStatus):
        return [(lpar.name, lpar.cores, lpar.hundredths, lpar.pools) for lpar in answer.lpars]
    return answer
