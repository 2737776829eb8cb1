"""A client that works beside an attack, and how long its calls take with and without it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lpar.client import Lpar, Request, Window
from protocol.codes import CompletionCode, FunctionCode
from tests.abuse.standing import rss_kib
from tests.conftest import Figure
from tests.overload.conftest import PARTS, Attack
from tests.processes.cluster import Cluster, eventually
from tests.processes.test_start import processor_s

SOURCES = Path(__file__).parents[2]
TEXT = b"".join(path.read_bytes() for path in sorted((SOURCES / "tests").rglob("*.py")))[:1_000_000]
REQUEST = Request(FunctionCode.COMPRESS_DHT, TEXT, len(TEXT))
"""About as long as a request may be, of text as programs have it."""
CALLS = 15
"""Calls of each kind in each half of a round."""
RATIO_AIM = 5.0
MARGIN = 2.0
"""The tail of 150 calls is two of them; that of 1,500 is judged without a margin."""
MANY_CALLS = 1000
ATTACK_MOST_S = 60
IDLE_WINDOW_S = 0.1
IDLE_S = 0.02
"""Processor time in that window of a process that has nothing left to do."""
MEMORY_MOST_KIB = 128 * 1024
"""What an attack may add to a process: full queues of 100 connections, and what the allocator keeps of them."""


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
            paste_s, open_s = self._call()
            self.pastes[attacked].append(paste_s)
            self.opens[attacked].append(open_s)

    def work_until(self, ended: Callable[[], int | None], what: str) -> int:
        """Calls under attack until it has ended; how it ended."""

        def calls() -> bool:
            self.work(attacked=True)
            return ended() is not None

        eventually(calls, what, ATTACK_MOST_S)
        code = ended()
        assert code is not None
        return code

    def _call(self) -> tuple[float, float]:
        began = time.perf_counter()
        assert self.window.run(REQUEST, 10).code is CompletionCode.OK
        between = time.perf_counter()
        self.lpar.open_window(qos=True).close()
        return between - began, time.perf_counter() - between

    def judge(self, figure: Figure, stretch: float = 1.0) -> None:
        """The slowest hundredth under attack takes at most so many times what it takes without.

        `stretch`: how many times as long as on a core of its own the busiest process has taken. Without an attack it
        sleeps, and whoever sleeps gets a core at once; so this counts in the attacked half alone.
        """
        for name, times in (("pastes", self.pastes), ("open and close", self.opens)):
            quiet_ms, attacked_ms = 1000 * p99(times[False]), 1000 * p99(times[True])
            ratio = attacked_ms / quiet_ms
            figure(f"p99 of others' {name}, attacked to quiet", ratio, "times")
            print(f"  p99 of {len(times[True])}: {attacked_ms:.1f} ms to {quiet_ms:.1f} ms; stretch {stretch:.1f}")
            margin = 1.0 if len(times[True]) >= MANY_CALLS else MARGIN
            assert ratio <= margin * RATIO_AIM * stretch, name


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def in_turns(cluster: Cluster, neighbour: Neighbour, attack: Attack, rounds: int) -> float:
    """Quiet and attacked, one after the other, so that a noisy machine is noisy for both; the attacked half's stretch.

    Quiet begins when nobody is at what the attack has left in the queues.
    """
    pids = [cluster.pid(part) for part in PARTS]
    used = dict.fromkeys(pids, 0)
    waited = dict.fromkeys(pids, 0)
    for _ in range(rounds):
        eventually(lambda: is_idle(pids), "what the attack has left is dealt with")
        neighbour.work(attacked=False)
        before = {pid: scheduled(pid) for pid in pids}
        attack.go()
        neighbour.work(attacked=True)
        for pid in pids:
            used[pid] += scheduled(pid)[0] - before[pid][0]
            waited[pid] += scheduled(pid)[1] - before[pid][1]
        attack.hold()
    assert attack.bursts > rounds
    busiest = max(pids, key=lambda pid: used[pid])
    return (used[busiest] + waited[busiest]) / used[busiest]


def scheduled(pid: int) -> tuple[int, int]:
    """Nanoseconds that a process's first thread, its loop, has run on a core and has waited for one."""
    ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(ran), int(waited)


def is_idle(pids: list[int]) -> bool:
    """Whether none of these processes has used its processor for a while."""
    before = [processor_s(pid) for pid in pids]
    time.sleep(IDLE_WINDOW_S)
    return all(processor_s(pid) - used < IDLE_S for pid, used in zip(pids, before, strict=True))


@contextmanager
def bounded(cluster: Cluster, figure: Figure) -> Iterator[None]:
    """No process grows beyond what the limits of its queues allow."""
    before = {part: rss_kib(cluster.pid(part)) for part in PARTS}
    yield
    grown = {part: rss_kib(cluster.pid(part)) - before[part] for part in PARTS}
    figure("most memory that a process grew by", max(grown.values()) / 1024, "MiB")
    assert max(grown.values()) < MEMORY_MOST_KIB, grown


def peak_kib(pid: int) -> int:
    """The most resident memory that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
