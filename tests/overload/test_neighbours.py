"""What others see of an attack: their calls take little longer than without it, measured in turns in the same run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.codes import CompletionCode
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.overload.attacker import BROKEN_OFF
from tests.overload.conftest import Starter
from tests.overload.neighbour import REQUEST, Neighbour, bounded, in_turns, peak_kib
from tests.processes.cluster import Cluster

ROUNDS, LONG_ROUNDS = 10, 100
ENDLESS_ATTACKS = 3
"""More than one: what the first has made the process take serves the next, beside the same ceiling."""
CEILING_KIB = 256 * 1024
CODE_KIB = 64 * 1024
"""The ceiling is that of data; code is counted beside it."""
Attacked = Callable[[str, str, int], None]


@pytest.fixture
def attacked(cluster: Cluster, attack: Starter, figure: Figure) -> Attacked:
    """Measure the neighbour's calls with and without an attack of a mode at a partition, so many rounds."""

    def measure(mode: str, lpar: str, rounds: int) -> None:
        with cluster.lpar("lp2") as owner, bounded(cluster, figure):
            neighbour = Neighbour(owner)
            stretch = in_turns(cluster, neighbour, attack(mode, lpar), rounds)
            figure("for want of a free core the busiest process took", stretch, "times as long")
            neighbour.judge(figure, stretch)

    return measure


@failure(
    "overload",
    "100 clients paste at full speed at one NX unit with a FIFO of 8",
    seen="Calls take longer: the figures are p99 under attack over p99 without it, in the same run.",
    lasts="As long as they paste.",
    kept="Pastes with a QoS credit, opens and closes go on; memory.",
)
def test_a_hundred_clients_at_full_speed_leave_others_their_unit(attacked: Attacked) -> None:
    attacked("pasting", "lp3", ROUNDS)


@failure(
    "overload",
    "a flood of messages that are none",
    seen="Calls take longer, as the figures say.",
    lasts="As long as it comes.",
    kept="Pastes with a QoS credit, opens and closes go on; memory.",
)
def test_a_flood_of_garbage_leaves_others_their_unit(attacked: Attacked) -> None:
    attacked("garbage", "lp2", ROUNDS)


@failure(
    "overload",
    "clients that ask and never read an answer",
    seen="Calls of others take longer, as the figures say.",
    lasts="As long as they ask.",
    kept="Pastes with a QoS credit, opens and closes of others go on; memory.",
)
def test_clients_that_never_read_leave_others_their_unit(attacked: Attacked) -> None:
    attacked("never_reading", "lp1", ROUNDS)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("mode", "lpar"), [("pasting", "lp3"), ("garbage", "lp2"), ("never_reading", "lp1")])
def test_others_keep_their_unit_through_a_long_attack(attacked: Attacked, mode: str, lpar: str) -> None:
    attacked(mode, lpar, LONG_ROUNDS)


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
        for _ in range(ENDLESS_ATTACKS):
            endless = attack("endless", "lp1")
            endless.go()
            assert neighbour.work_until(endless.process.poll, "the connection is dropped at the ceiling") == BROKEN_OFF
            assert peak_kib(victim) > CEILING_KIB // 2
        figure("the most memory that it had", peak_kib(victim) / 1024, "MiB")
        assert peak_kib(victim) <= CEILING_KIB + CODE_KIB
        neighbour.judge(figure)
        assert cluster.pid("lp1") == victim
        assert window.run(REQUEST, 10).code is CompletionCode.OK
        window.close()
