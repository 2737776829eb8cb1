"""SIGKILL of any one process at any step of its node loop: nothing is leaked, granted twice, or lost to a survivor.

The points are those of a recorded life (crash.py), so that a new message or a new step of the loop is a new point. The
short tests kill once at each point, at one of the times that it comes up, and at some pairs of points in one life;
`make soak` at every time, twice in a row, and at many pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from protocol.link import LINKS, TELEMETRY
from tests.failures.rows import failure
from tests.system.crash import Killer, Point, calm_life, crashed_life
from tests.system.watching import StepKind

Figure = Callable[[str, float, str], None]
Points = Counter[Point]

AWAY_US = (50_000, 300_000, 1_000_000)
"""How long a killed server stays away: within every lease."""
LONG_AWAY_US = 8_000_000
"""Longer than the fence."""
TURN_US = 3_000
"""How long a server reads on before it ends a turn, where a turn takes several messages (links.py)."""
TWICE = 30
PERIODIC = ("beat", "beat_echo", "probe", "timer")
PERIODIC_TIMES = 25
NEVER_SAID = {
    "h_query_vas_window": "no kernel asks it of itself",
    "window_state": "its answer",
    "h_vasi_signal": "a kernel cancels a migration only where suspending fails",
    "paste_refused": "a unit refuses where its FIFO is full; nothing is queued or kept by that",
}
"""Messages that the workload does not bring about."""


@pytest.fixture(scope="module")
def calm() -> Points:
    return calm_life()


def test_the_same_life_has_the_same_points(calm: Points) -> None:
    assert calm_life() == calm


def test_the_points_cover_every_message_of_every_link_and_every_step_of_the_loop(calm: Points) -> None:
    spoken = {point.message for point in calm}
    known = {name for link in LINKS.values() if link is not TELEMETRY for name in (*link.up.names, *link.down.names)}
    assert known - spoken == NEVER_SAID.keys()
    assert {point.kind for point in calm} == set(StepKind)
    assert {point.role for point in calm} == {"hypervisor", "nxunit", "lpar", "client", "hmc"}


@failure(
    "hypervisor",
    "killed at any step of its loop: before or after any input, commit or send",
    seen="An hcall or a console's command takes longer; pastes go on.",
    lasts="Until it is back and its units and partitions have resumed.",
    kept="Every window, credit and change that was answered; what was not is done once when it is repeated.",
)
@pytest.mark.timeout(300)
def test_a_hypervisor_killed_at_any_step_loses_and_doubles_nothing(calm: Points, figure: Figure) -> None:
    kill_once_at_each("hypervisor", calm, figure)


@failure(
    "lpar",
    "killed at any step of its loop",
    seen="Its processes get ENODEV and reconnect; the console is told of a change or migration that ended with it.",
    lasts="The partition's lease, then its boot.",
    kept="Other partitions notice nothing. The dead partition's credits are free again, each once.",
)
@pytest.mark.timeout(300)
def test_a_partition_killed_at_any_step_costs_nobody_else_anything(calm: Points, figure: Figure) -> None:
    kill_once_at_each("lpar", calm, figure)


@failure(
    "nxunit",
    "killed at any step of its loop, and started again within the fence",
    seen="Requests on its windows take longer; opens may wait for it.",
    lasts="Until it is back and its contexts are programmed again.",
    kept="The same windows work. A request that it had accepted is pasted again and completes.",
)
@pytest.mark.timeout(300)
def test_a_unit_killed_at_any_step_has_its_windows_back(calm: Points, figure: Figure) -> None:
    kill_once_at_each("nxunit", calm, figure)


@failure(
    "client",
    "killed at any step of its loop",
    seen="Nothing, for anybody else.",
    lasts="The client's lease and one probe.",
    kept="Its credits are free again, each once, those of opens and closes under way too.",
)
@pytest.mark.timeout(300)
def test_a_client_killed_at_any_step_leaves_no_credit_behind(calm: Points, figure: Figure) -> None:
    kill_once_at_each("client", calm, figure)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("role", ["hypervisor", "nxunit", "lpar"])
def test_a_server_killed_in_turns_of_several_messages_loses_and_doubles_nothing(role: str) -> None:
    """As the node loop drains its sockets: one commit then stores what came of many messages. Every third point."""
    calm = calm_life(TURN_US)
    points = [point for point in sorted(calm) if point.role == role and not is_as_another(point, calm)]
    for point in points[::3]:
        random = Random(f"{point} in a turn")
        kill(point, (random.randint(1, calm[point]),), random.choice(AWAY_US), turn_us=TURN_US)


def test_turns_of_several_messages_have_fewer_commits(calm: Points) -> None:
    def commits(points: Points) -> int:
        return sum(count for point, count in points.items() if point.kind is StepKind.COMMIT)

    assert commits(calm_life(TURN_US)) < 0.95 * commits(calm)


@pytest.mark.timeout(300)
def test_any_two_processes_may_be_killed_in_one_life(calm: Points) -> None:
    """Under the same rules as one, where each is back soon: a survivor of both must not notice more than a delay."""
    for seed in range(TWICE):
        random = Random(f"two deaths {seed}")
        points = random.sample(sorted(calm), 2)
        killers = [Killer(point, (random.randint(1, calm[point]),), AWAY_US[0]) for point in points]
        try:
            victims = crashed_life(killers, turn_us=TURN_US * (seed % 2))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {' and '.join(map(str, points))}: {error}") from error
        assert victims


@pytest.mark.timeout(300)
def test_a_console_killed_at_any_step_has_its_command_done_once_or_not_at_all(calm: Points, figure: Figure) -> None:
    kill_once_at_each("hmc", calm, figure)


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("role", ["hypervisor", "lpar", "nxunit", "client", "hmc"])
def test_every_time_that_a_point_comes_up(calm: Points, figure: Figure, role: str) -> None:
    lives = 0
    for point, count in sorted(calm.items()):
        if point.role == role:
            times = range(1, count + 1)
            if point.message in PERIODIC and count > PERIODIC_TIMES:
                times = range(1, count + 1, count // PERIODIC_TIMES)
            for time in times:
                lives += 1
                kill(point, (time,), Random(f"{point} {time}").choice(AWAY_US))
    figure(f"lives with one {role} killed", lives, "lives")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_again_at_the_same_point_after_its_restart(calm: Points, figure: Figure) -> None:
    twice = 0
    for point, count in sorted(calm.items()):
        if count > 1:
            time = Random(str(point)).randint(1, count - 1)
            twice += kill(point, (time, time + 1), 50_000) > 1
    figure("points at which a process was killed twice in a row", twice, "points")
    assert twice


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1_000))
def test_two_processes_killed_in_one_life(calm: Points, seed: int) -> None:
    random = Random(seed)
    points = random.sample(sorted(calm), 2)
    crashed_life(
        [Killer(point, (random.randint(1, calm[point]),), random.choice(AWAY_US)) for point in points], strict=False
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_server_that_stays_away_for_longer_than_the_fence(calm: Points) -> None:
    for point, count in sorted(calm.items()):
        if point.role in ("hypervisor", "nxunit", "lpar"):
            time = Random(f"long {point}").randint(1, count)
            kill(point, (time,), LONG_AWAY_US, strict=False)


def kill_once_at_each(role: str, calm: Points, figure: Figure) -> None:
    """One life for each of the role's points. Fails with every point that was not hit or did harm."""
    points = [point for point in sorted(calm) if point.role == role]
    chosen = [point for point in points if not is_as_another(point, calm)]
    harm: list[str] = []
    for point in chosen:
        random = Random(str(point))
        try:
            kill(point, (random.randint(1, calm[point]),), random.choice(AWAY_US))
        except AssertionError as error:
            harm.append(str(error))
    figure(f"crash points of {role}", len(points), "points")
    figure(f"of them killed at, as the others are the same death of a {role}", len(chosen), "points")
    assert not harm, "\n".join(harm)


def is_as_another(point: Point, calm: Points) -> bool:
    """Whether a death at this point is the same as at another one, because in between nothing leaves the process.

    A core does nothing outside of itself: dying before it takes an input in, before its tick and before the commit of
    what came of it are one. Having sent everything is dying at the next input, except where a commit is part of it.
    """
    if point.kind is StepKind.SENT:
        return point.role != "hypervisor"
    later = {StepKind.INPUT: (StepKind.COMMIT,), StepKind.TICK: (StepKind.COMMIT, StepKind.INPUT)}
    return any(Point(point.role, kind, point.message) in calm for kind in later.get(point.kind, ()))


def kill(point: Point, times: tuple[int, ...], away_us: int, *, strict: bool = True, turn_us: int = 0) -> int:
    """One life in which `point` kills; how often. Raises AssertionError, with what to repeat, where it was not hit or
    did harm. After the first death everything else may come otherwise, a second one too.
    """
    where = f"{point} at time {times}, away for {away_us} us"
    try:
        victims = crashed_life([Killer(point, times, away_us)], strict=strict, turn_us=turn_us)
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from error
    assert victims, f"{where}: it was not hit"
    return len(victims)
