"""Where the tour takes place: the console, the telemetry, what is printed and what is checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console as Terminal

from hmc.connection import Console
from hmc.observer import Observer
from lpar.client import Lpar
from protocol.codes import CreditType
from protocol.console_messages import SystemStatus
from protocol.message import Message
from protocol.telemetry_messages import ConfigurationMoved, HcallMade
from vasbus.output import table
from vasbus.survey import KernelCounters, pool, read_counters
from vasbus.target import client_keys, endpoint_on
from vasbus.tour.crew import Crew, TourFailure
from vasbus.tour.inputs import Inputs
from vasbus.words import processors

SETTLE_WAIT_S = 20.0
LISTEN_S = 0.3
WINDOW_LIST_PATH = "/sys/kernel/debug/vasbus/windows"


@dataclass(slots=True)
class Stage:
    """Everything a step of the tour needs."""

    console: Console
    observer: Observer
    terminal: Terminal
    crew: Crew
    inputs: Inputs
    network: str
    facts: dict[str, int] = field(default_factory=dict)
    checks: int = 0

    def title(self, number: int, text: str) -> None:
        self.terminal.print(f"\n[bold]{number}. {text}[/bold]", highlight=False)

    def say(self, text: str) -> None:
        self.terminal.print(f"   {text}", highlight=False, markup=False)

    def check(self, holds: bool, claim: str, found: object = "") -> None:
        """Print a claim that holds, or end the tour with it. Raises TourFailure."""
        if not holds:
            raise TourFailure(f"not so: {claim}" + (f" (found {found})" if found != "" else ""))
        self.checks += 1
        self.terminal.print(f"   [green]ok[/green] {claim}", highlight=False)

    def add(self, fact: str, amount: int) -> None:
        """Count something for the summary."""
        self.facts[fact] = self.facts.get(fact, 0) + amount

    # What the system says.

    def system(self) -> SystemStatus:
        return self.console.system()

    def device(self, lpar: str) -> str:
        """The partition's device endpoint."""
        found = next(status for status in self.system().lpars if status.name == lpar)
        return endpoint_on(self.network, lpar, found.endpoints, found.state)

    def counters(self, lpar: str) -> KernelCounters:
        """The four counters from the partition's sysfs."""
        status = next(status for status in self.system().lpars if status.name == lpar)
        counters = read_counters(status, self.network)
        if counters is None:
            raise TourFailure(f"{lpar} does not show its sysfs counters")
        return counters

    def kernel_windows(self, lpar: str) -> list[list[str]]:
        """The kernel's window list, newest first: order, type, window id, status, pid, descriptor."""
        with Lpar(self.device(lpar), network=self.network, keys=client_keys(lpar)) as partition:
            lines = partition.read(WINDOW_LIST_PATH).splitlines()
        return [line.split() for line in lines[1:]]

    def credit_table(self) -> None:
        """Credits of every partition, the kernel's counters beside the hypervisor's ledger."""
        rows = []
        for status in self.system().lpars:
            kernel = self.counters(status.name)
            ledger = pool(status, CreditType.DEFAULT)
            share = processors(status.mode, status.cores, status.hundredths)
            row = (status.name, share, kernel.default_total, kernel.default_used, ledger.target, ledger.in_use)
            rows.append(row)
        headings = ("   lpar", "processors", "total", "used", "target", "windows in the ledger")
        self.terminal.print(table("", headings, [(f"   {row[0]}", *row[1:]) for row in rows]))

    # What crossed the bus.

    def messages(self, wanted: Callable[[Message], bool], wait_s: float = LISTEN_S) -> list[Message]:
        """Telemetry that has come and comes within `wait_s` of silence."""
        found: list[Message] = []
        while batch := list(self.observer.messages(wait_s)):
            found += [message for message in batch if wanted(message)]
        return found

    def forget_messages(self) -> None:
        """Read what telemetry is waiting, so that the next look shows only what is new."""
        for _ in self.observer.messages():
            pass

    def show(self, message: Message) -> None:
        """One telemetry message in words."""
        if isinstance(message, HcallMade):
            self.say(
                f"{message.lpar} -> hypervisor  {message.hcall} {message.arguments}"
                f"  ->  {message.code.name} (request {message.number} of epoch {message.epoch})"
            )
        elif isinstance(message, ConfigurationMoved):
            self.say(
                f"hypervisor: {message.lpar} {message.kind} generation {message.generation} "
                f"{message.step} ({message.detail})"
            )

    def wait_until(self, claim: str, holds: Callable[[], bool]) -> None:
        """Wait for something that must become true. Raises TourFailure after SETTLE_WAIT_S."""
        deadline = time.monotonic() + SETTLE_WAIT_S
        while not holds():
            if time.monotonic() >= deadline:
                raise TourFailure(f"not so within {SETTLE_WAIT_S:g} s: {claim}")
            time.sleep(0.05)
