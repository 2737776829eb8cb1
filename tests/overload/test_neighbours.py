"""What others see of an attack: their calls take little longer than without it, measured in turns in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lpar.client import Lpar, Request, Window
from protocol.codes import CompletionCode
from tests.abuse.standing import rss_kib
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.overload.conftest import Attack
from tests.processes.cluster import Cluster, eventually

ROUNDS = 5
CALLS = 12
"""Calls of each kind in each half of a round."""
RATIO_AIM = 5.0
RATIO_MOST = 5 * RATIO_AIM
"""With this few calls the p99 is the slowest: a machine that is busy with something else gets five times the aim."""
MEMORY_MOST_KIB = 128 * 1024
"""What an attack may add to a process: full queues of 100 connections, and what the allocator keeps of them."""
CEILING_KIB = 256 * 1024
REQUEST = Request(0, b"a neighbour's page " * 14_000, 300_000)
CODE_KIB = 64 * 1024
"""The ceiling is that of data; code is counted beside it."""
Starter = Callable[[str, str], Attack]


class Neighbour:
    """A client of lp2 that pastes with a QoS credit, and opens and closes another window."""

    def __init__(self, lpar: Lpar) -> None:
        self.lpar = lpar
        self.window: Window = lpar.open_window(qos=True)
        self.pastes: dict[bool, list[float]] = {False: [], True: []}
        self.opens: dict[bool, list[float]] = {False: [], True: []}

    def work(self, *, attacked: bool) -> None:
        """Some calls of each kind."""
        for _ in range(CALLS):
            began = time.perf_counter()
            assert self.window.run(REQUEST, 10).code is CompletionCode.OK
            between = time.perf_counter()
            self.lpar.open_window(qos=True).close()
            self.pastes[attacked].append(between - began)
            self.opens[attacked].append(time.perf_counter() - between)


def peak_kib(pid: int) -> int:
    """The most resident memory that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def in_turns(neighbour: Neighbour, attack: Attack) -> None:
    """Quiet and attacked, one after the other, so that a noisy machine is noisy for both."""
    for _ in range(ROUNDS):
        neighbour.work(attacked=False)
        attack.go()
        neighbour.work(attacked=True)
        attack.hold()
    assert attack.bursts > ROUNDS


@contextmanager
def bounded(cluster: Cluster, figure: Figure) -> Iterator[None]:
    """No process grows beyond what the limits of its queues allow."""
    parts = ("hypervisor", "nx0", "lp1", "lp2", "lp3")
    before = {part: rss_kib(cluster.pid(part)) for part in parts}
    yield
    grown = {part: rss_kib(cluster.pid(part)) - before[part] for part in parts}
    figure("most memory that a process grew by", max(grown.values()) / 1024, "MiB")
    assert max(grown.values()) < MEMORY_MOST_KIB, grown


def judge(neighbour: Neighbour, figure: Figure) -> None:
    for name, times in (("pastes", neighbour.pastes), ("open and close", neighbour.opens)):
        ratio = p99(times[True]) / p99(times[False])
        figure(f"p99 of others' {name}, attacked to quiet", ratio, "times")
        assert ratio <= RATIO_MOST, name


@failure(
    "overload",
    "100 clients paste at full speed at one NX unit with a FIFO of 8",
    seen="Calls take longer: the figures are p99 under attack over p99 without it, in the same run.",
    lasts="As long as they paste.",
    kept="Pastes with a QoS credit, opens and closes go on; memory.",
)
def test_a_hundred_clients_at_full_speed_leave_others_their_unit(
    cluster: Cluster, attack: Starter, figure: Figure
) -> None:
    with cluster.lpar("lp2") as lpar, bounded(cluster, figure):
        neighbour = Neighbour(lpar)
        in_turns(neighbour, attack("pasting", "lp3"))
        judge(neighbour, figure)


@failure(
    "overload",
    "a flood of messages that are none",
    seen="Calls take longer, as the figures say.",
    lasts="As long as it comes.",
    kept="Pastes with a QoS credit, opens and closes go on; memory.",
)
def test_a_flood_of_garbage_leaves_others_their_unit(cluster: Cluster, attack: Starter, figure: Figure) -> None:
    with cluster.lpar("lp2") as lpar, bounded(cluster, figure):
        neighbour = Neighbour(lpar)
        in_turns(neighbour, attack("garbage", "lp2"))
        judge(neighbour, figure)


@failure(
    "overload",
    "clients that ask and never read an answer",
    seen="Calls of others take longer, as the figures say.",
    lasts="As long as they ask.",
    kept="Pastes with a QoS credit, opens and closes of others go on; memory.",
)
def test_clients_that_never_read_leave_others_their_unit(cluster: Cluster, attack: Starter, figure: Figure) -> None:
    with cluster.lpar("lp2") as lpar, bounded(cluster, figure):
        neighbour = Neighbour(lpar)
        in_turns(neighbour, attack("never_reading", "lp1"))
        judge(neighbour, figure)


@failure(
    "overload",
    "a message that never ends",
    seen="Nothing. The process that it is for drops the connection at its memory ceiling (`limits.memory_mb`).",
    lasts="Until the ceiling is met: seconds.",
    kept="The process, what it holds, and others' calls.",
)
def test_a_message_that_never_ends_costs_its_sender_the_connection(
    cluster: Cluster, attack: Starter, figure: Figure
) -> None:
    with cluster.lpar("lp1") as holder, cluster.lpar("lp2") as lpar:
        window = holder.open_window()
        neighbour, victim = Neighbour(lpar), cluster.pid("lp1")
        neighbour.work(attacked=False)
        endless = attack("endless", "lp1")
        endless.go()

        def dropped() -> bool:
            neighbour.work(attacked=True)
            return peak_kib(victim) > CEILING_KIB // 2 > rss_kib(victim)

        eventually(dropped, "the connection is dropped at the ceiling", 60)
        figure("the most memory that it had", peak_kib(victim) / 1024, "MiB")
        assert peak_kib(victim) <= CEILING_KIB + CODE_KIB
        judge(neighbour, figure)
        assert cluster.pid("lp1") == victim
        assert window.run(REQUEST, 10).code is CompletionCode.OK
        window.close()
