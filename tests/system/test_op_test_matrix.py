"""IBM's op-test matrix for VAS credits, under load: after each step every count is exact, and at once.

It removes and adds 1, 2 and 4 dedicated processors, and 0.1, 0.2 and 0.4 units of shared capacity (domain.md 5.1).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest

from lpar.client import KernelFailure, Lpar, Window
from protocol.codes import CreditType, KernelReason
from protocol.console_messages import ChangeProcessors, ConfigurationApplied, SetEntitlement, SetQosCredits
from protocol.message import Request
from protocol.system import QosRule, SystemSettings, parse_system
from tests.fidelity.rows import fidelity
from tests.processes.cluster import SYSFS, WINDOW_LIST
from tests.system.load import Load, Worker
from tests.system.story import booted, settle_and_compare
from tests.system.system import System

SETTINGS = """
[system]
name = "matrix"
qos_reduces_default = "{rule}"

[[chip]]
number = 0
unit = "nx0"
cores = 8

[[chip]]
number = 1
unit = "nx1"
cores = 8

[[lpar]]
name = "dedicated"
cores = 5
home_chip = 0

[[lpar]]
name = "shared"
mode = "shared"
hundredths = 100
home_chip = 1
"""
WAIT_MS = 10_000
CREDITS_PER_PROCESSOR = 20
HUNDREDTHS = 100
CLIENTS = 4
QOS_CREDITS = 7


def settings_of(rule: QosRule) -> SystemSettings:
    return parse_system(SETTINGS.format(rule=rule), "matrix")


@dataclass
class Matrix:
    """A partition whose clients hold windows in a known order, some of them under load.

    `active` is how many default windows the kernel has open: always the oldest. `lowered` is what QoS credits take
    from the default ones.
    """

    system: System
    lpar: str
    hundredths: int
    lowered: int = 0
    active: int = 0
    qos_total: int = 0
    clients: list[Lpar] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    qos_windows: list[Window] = field(default_factory=list)
    busy: dict[int, Worker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clients = [self.system.client(self.lpar) for _ in range(CLIENTS)]
        self.console = self.system.console()
        self.load = Load(self.system)

    @property
    def total(self) -> int:
        return self.hundredths * CREDITS_PER_PROCESSOR // HUNDREDTHS - self.lowered

    def fill(self) -> None:
        """Open a window for every credit, the clients in turns; load comes on the first and the last of each client."""
        first = len(self.windows)
        while len(self.windows) < self.total:
            self.windows.append(self.clients[len(self.windows) % CLIENTS].open_window())
        self.active = len(self.windows)
        for place in {*range(first, first + CLIENTS), *range(self.active - CLIENTS, self.active)}:
            if first <= place < self.active:
                self.busy[place] = self.load.put_on(self.clients[place % CLIENTS], self.windows[place])
        with pytest.raises(KernelFailure) as refusal:
            self.clients[0].open_window()
        assert (refusal.value.errno, refusal.value.reason) == (errno.EINVAL, KernelReason.NO_CREDIT)
        self.check()

    def change(self, hundredths: int) -> None:
        """A step of the matrix: the console's answer, every count, and the clients' work."""
        total_before, active_before = self.total, self.active
        self.hundredths += hundredths
        self.active = min(len(self.windows), self.total)
        applied = self.ask(self._request(hundredths))
        assert (applied.total_before, applied.total_after) == (total_before, self.total)
        assert len(applied.closed) == max(0, active_before - self.active)
        assert len(applied.reopened) == max(0, self.active - active_before)
        self.check()
        working = [worker for place, worker in self.busy.items() if place < self.active]
        waiting = [worker for place, worker in self.busy.items() if place >= self.active]
        self.load.goes_on(working, waiting)
        self.check()

    def _request(self, hundredths: int) -> Request:
        if self.lpar == "dedicated":
            return ChangeProcessors(lpar=self.lpar, cores=hundredths // HUNDREDTHS, wait_ms=WAIT_MS)
        return SetEntitlement(lpar=self.lpar, hundredths=self.hundredths, wait_ms=WAIT_MS)

    def change_qos(self, credits: int) -> ConfigurationApplied:
        applied = self.ask(SetQosCredits(lpar=self.lpar, credits=credits, wait_ms=WAIT_MS))
        assert (applied.total_before, applied.total_after) == (self.qos_total, credits)
        self.qos_total = credits
        assert self.counters("qos_capabilities") == (credits, len(self.qos_windows))
        return applied

    def ask(self, request: Request) -> ConfigurationApplied:
        applied = self.console.ask(request)
        assert isinstance(applied, ConfigurationApplied)
        return applied

    def check(self) -> None:
        """Files of the partition, windows of its kernel, the hypervisor's ledger, contexts of the units."""
        assert self.counters("default_capabilities") == (self.total, len(self.windows))
        listed = [line.split() for line in self.clients[0].read(WINDOW_LIST).splitlines()[1:]]
        statuses = [line[3] for line in reversed(listed) if line[1] == "default"]
        closed = len(self.windows) - self.active
        assert statuses == ["active"] * self.active + ["no_cred_close"] * closed
        ledger = self.system.hypervisor.ledger
        assert ledger.in_use(self.lpar, CreditType.DEFAULT) == self.active
        assert ledger.in_use(self.lpar, CreditType.QOS) == min(self.qos_total, len(self.qos_windows))
        held = {window.window_id for window in ledger.windows.values()}
        assert held == {int(line[2]) for line in listed if line[3] == "active"} == set(self.system.contexts())

    def counters(self, folder: str) -> tuple[int, int]:
        """Total and used, as sysfs has them."""
        read = self.clients[0].read
        return int(read(f"{SYSFS}/{folder}/nr_total_credits")), int(read(f"{SYSFS}/{folder}/nr_used_credits"))

    def end(self) -> None:
        self.load.stop()
        for client in self.clients:
            client.close()
        settle_and_compare(self.system)
        assert not self.system.hypervisor.ledger.windows


@fidelity(
    "5 credits",
    "Removing and adding 1, 2 and 4 dedicated processors under load moves the total to processors x 20, exactly.",
    source="OPT",
)
@pytest.mark.parametrize("cores", [1, 2, 4])
def test_dedicated_processors_removed_and_added_under_load_move_the_credits_exactly(cores: int) -> None:
    matrix, step = Matrix(booted(settings_of(QosRule.LPAR), cores), "dedicated", 500), cores * HUNDREDTHS
    matrix.fill()
    for hundredths in (-step, step, step, -step, step):
        matrix.change(hundredths)
    matrix.fill()
    for hundredths in (-step, -step, step, step):
        matrix.change(hundredths)
    matrix.end()


@fidelity(
    "5 credits",
    "Changing shared capacity by 0.1, 0.2 and 0.4 units under load moves the total to entitled capacity x 20, exactly.",
    source="OPT",
)
@pytest.mark.parametrize("step", [10, 20, 40])
def test_entitled_capacity_lowered_and_raised_under_load_moves_the_credits_exactly(step: int) -> None:
    matrix = Matrix(booted(settings_of(QosRule.LPAR), step), "shared", 100)
    matrix.fill()
    for hundredths in (-step, step, step, -step, step):
        matrix.change(hundredths)
    matrix.fill()
    for hundredths in (-step, -step, step, step):
        matrix.change(hundredths)
    matrix.end()


@fidelity(
    "5 credits",
    "A partition's default credits are reduced by its QoS credits; the formula is not public.",
    source="ADD",
    differs='One for one in the same partition; `qos_reduces_default = "none"`: not at all.',
)
@fidelity(
    "5 credits",
    "When QoS credits change Linux does not ask for the default credits that this changes.",
    source="K:vas-sysfs.c",
)
@pytest.mark.parametrize("rule", QosRule)
@pytest.mark.parametrize("lpar", ["dedicated", "shared"])
def test_with_qos_credits_on_top_the_matrix_stays_exact(rule: QosRule, lpar: str) -> None:
    matrix = Matrix(booted(settings_of(rule), 9), lpar, 500 if lpar == "dedicated" else 100)
    step = 100 if lpar == "dedicated" else 20
    matrix.fill()
    assert not matrix.change_qos(QOS_CREDITS).closed
    matrix.check()
    matrix.lowered = QOS_CREDITS if rule is QosRule.LPAR else 0
    matrix.qos_windows += [matrix.clients[1].open_window(qos=True) for _ in range(QOS_CREDITS)]
    oldest = matrix.load.put_on(matrix.clients[1], matrix.qos_windows[0])
    newest = matrix.load.put_on(matrix.clients[1], matrix.qos_windows[-1])
    for hundredths in (-step, step, step):
        matrix.change(hundredths)
    assert len(matrix.change_qos(3).closed) == QOS_CREDITS - 3
    matrix.load.goes_on([oldest], [newest])
    assert len(matrix.change_qos(QOS_CREDITS).reopened) == QOS_CREDITS - 3
    matrix.load.goes_on([oldest, newest], [])
    for hundredths in (-step, -step, step):
        matrix.change(hundredths)
    matrix.end()
