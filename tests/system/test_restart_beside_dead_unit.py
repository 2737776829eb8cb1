"""The hypervisor is killed while an NX unit is dead: what concerns the other units goes on, and nobody is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lpar.client import Lpar, Window
from lpar.client.errors import KernelFailure
from lpar.client.tally import PasteTally
from lpar.client.tasks import Task
from lpar.client.window import open_window
from protocol.clock import SECOND_US
from protocol.codes import CompletionCode, CreditType, HcallCode
from protocol.console_messages import QuerySystem, SystemStatus
from tests.failures.rows import failure
from tests.system.actors import ClientHost
from tests.system.deaths import REQUEST, TIMES, up
from tests.system.system import System

Figure = Callable[[str, float, str], None]
RESTART_US = 50_000
ANY = 0
"""The kernel names its home chip for -1; for any other number the hypervisor takes the emptiest unit."""
SUSPECT_S = TIMES.suspect_ms / 1_000
FENCE_S = TIMES.fence_ms / 1_000


def both_die(system: System, unit: str) -> int:
    """A unit and then the hypervisor, which alone comes back. When it did."""
    system.kill(unit)
    system.pass_time(SECOND_US)
    system.kill("hypervisor")
    system.pass_time(RESTART_US)
    system.start_hypervisor()
    return system.now_us


def on_unit(system: System, client: Lpar, unit: str) -> Window:
    """A window at home, of lp1 on chip 0 and of lp2 on chip 1."""
    window = client.open_window()
    window.map()
    assert system.contexts()[window.window_id] == unit
    return window


def seconds(system: System, do: Callable[[], object]) -> float:
    began_us = system.now_us
    do()
    return (system.now_us - began_us) / SECOND_US


@failure(
    "hypervisor",
    "killed and restarted while an NX unit is dead",
    seen="An open waits for the dead unit as long as it takes to suspect one, then it is on another unit.",
    lasts="suspect_ms after the start; closes and pastes on the other units wait for nothing.",
    kept="Every window; those of the dead unit work again when it is back.",
)
@pytest.mark.parametrize("seed", range(3))
def test_an_open_beside_a_dead_unit_is_placed_elsewhere_after_a_restart(seed: int, figure: Figure) -> None:
    system = up(seed)
    client, other = system.client("lp1", 60.0), system.client("lp2", 60.0)
    kept, lost = on_unit(system, client, "nx0"), on_unit(system, other, "nx1")
    began_us = both_die(system, "nx1")
    windows = [client.open_window(vas_id=ANY), other.open_window()]
    took_s = (system.now_us - began_us) / SECOND_US
    for window in windows:
        window.map()
    assert {system.contexts()[window.window_id] for window in windows} == {"nx0"}
    assert seconds(system, kept.close) < 0.1
    assert seconds(system, client.open_window) < 0.1
    figure("restart to the opens beside a dead unit", took_s, "s")
    assert took_s <= SUSPECT_S + 0.2
    system.start_unit("nx1")
    system.run_until(lambda: lost.window_id in system.contexts())
    assert lost.run(REQUEST).code is CompletionCode.OK


def test_a_close_on_another_unit_does_not_wait_for_the_dead_one() -> None:
    system = up(1)
    client, other = system.client("lp1", 60.0), system.client("lp2", 60.0)
    kept = on_unit(system, client, "nx0")
    on_unit(system, other, "nx1")
    both_die(system, "nx1")
    system.run_until(lambda: system.hypervisor.units.by_name["nx0"].usable)
    system.run_until(lambda: system.kernel("lp1").dialer.established)
    system.pass_time(SECOND_US // 2)
    assert system.hypervisor.recovering
    assert seconds(system, kept.close) < 0.1


def test_a_unit_that_comes_back_in_time_is_the_home_of_its_opens() -> None:
    system = up(2)
    client, other = system.client("lp1", 60.0), system.client("lp2", 60.0)
    on_unit(system, client, "nx0")
    on_unit(system, other, "nx1")
    both_die(system, "nx1")
    system.later(SECOND_US, lambda: system.revive("nx1"))
    assert on_unit(system, other, "nx1").run(REQUEST).code is CompletionCode.OK


def test_where_every_unit_is_dead_an_open_waits_and_is_not_refused() -> None:
    system = up(3)
    client = system.client("lp1", 60.0)
    kept = on_unit(system, client, "nx0")
    system.kill("nx1")
    both_die(system, "nx0")
    system.later(8 * SECOND_US, lambda: system.revive("nx0"))
    opened = client.open_window()
    opened.map()
    assert system.contexts()[opened.window_id] == "nx0"
    assert kept.run(REQUEST).code is CompletionCode.OK


def test_a_credit_on_the_dead_unit_is_not_given_again_before_its_fence() -> None:
    """A partition died with a full pool: its next incarnation gets what is certainly closed and no more."""
    system = up(4)
    credits = system.hypervisor.ledger.target(system.hypervisor.ledger.partitions["lp1"], CreditType.DEFAULT)
    client = system.client("lp1", 60.0)
    for _ in range(credits):
        client.open_window(vas_id=ANY)
    system.kill("lp1")
    system.kill("nx1")
    system.run_until(lambda: "lp1" not in system.hypervisor.hcall.sessions)
    system.pass_time(SECOND_US)
    system.kill("hypervisor")
    system.pass_time(RESTART_US)
    system.start_hypervisor()
    began_us = system.now_us
    system.start_lpar("lp1")
    again = system.client("lp1", 60.0)
    for _ in range(credits // 2):
        again.open_window()
    in_use = system.hypervisor.ledger.in_use("lp1", CreditType.DEFAULT)
    assert (in_use, system.hypervisor.recovering) == (credits, True)
    with pytest.raises(KernelFailure) as refused:
        again.open_window()
    assert refused.value.hcall is HcallCode.H_RESOURCE
    assert (system.now_us - began_us) / SECOND_US >= SUSPECT_S, "until then the unit may be back and have closed it"
    fence_us = began_us + int(FENCE_S * SECOND_US)
    assert system.now_us < fence_us
    system.run_until(lambda: system.hypervisor.ledger.in_use("lp1", CreditType.DEFAULT) == credits // 2)
    assert system.now_us >= fence_us
    again.open_window()


def test_the_console_says_that_the_hypervisor_recovers_until_the_dead_unit_has_fenced_itself() -> None:
    system = up(5)
    on_unit(system, system.client("lp1", 60.0), "nx0")
    began_us = both_die(system, "nx0")

    def is_recovering() -> bool:
        status = system.console().ask(QuerySystem())
        assert isinstance(status, SystemStatus)
        return status.recovering

    assert is_recovering()
    system.run_until(lambda: not system.hypervisor.recovering)
    assert FENCE_S <= (system.now_us - began_us) / SECOND_US < FENCE_S + 1
    assert not is_recovering()


def begin_to_open(lpar: Lpar) -> None:
    """Call open in a thread that nobody waits for."""
    driver = lpar.driver
    assert isinstance(driver, ClientHost)
    opening = open_window(qos=False, vas_id=-1, thread_id=1, timeout_us=60 * SECOND_US, tally=PasteTally())
    driver.core.submit(Task(opening), driver.system.now_us)
    driver.system.settle(driver.host)


@failure(
    "hypervisor",
    "killed and restarted while an NX unit is dead, with an open that it puts off",
    seen="Others' closes and opens of the partition wait for the kernel's mutex.",
    lasts="0.1 s for each open that is put off, and 3 s in all.",
    kept="The open: it gets its window, or is refused as at any other time.",
)
def test_a_close_waits_a_tenth_of_a_second_for_an_open_that_is_put_off(figure: Figure) -> None:
    system = up(1)
    client, other, second = system.client("lp1", 60.0), system.client("lp2", 60.0), system.client("lp1", 60.0)
    kept = on_unit(system, client, "nx0")
    on_unit(system, other, "nx1")
    both_die(system, "nx1")
    system.run_until(lambda: system.hypervisor.units.by_name["nx0"].usable)
    system.run_until(lambda: system.kernel("lp1").dialer.established)
    begin_to_open(second)
    system.pass_time(20_000)
    assert system.kernel("lp1").kernel.driver.mutex.holder is not None
    took_s = seconds(system, kept.close)
    figure("close beside an open that is put off", took_s * 1000, "ms")
    assert took_s <= 0.15
    assert system.hypervisor.recovering
    system.run_until(lambda: system.hypervisor.ledger.in_use("lp1", CreditType.DEFAULT) == 1)


def test_a_close_that_would_make_room_does_not_wait_for_the_open_that_wants_it() -> None:
    """A partition died with a full pool, and its next incarnation has what credits the dead unit leaves it."""
    system = up(4)
    client = system.client("lp1", 60.0)
    credits = system.hypervisor.ledger.target(system.hypervisor.ledger.partitions["lp1"], CreditType.DEFAULT)
    for _ in range(credits):
        client.open_window(vas_id=ANY)
    system.kill("lp1")
    system.kill("nx1")
    system.run_until(lambda: "lp1" not in system.hypervisor.hcall.sessions)
    system.start_lpar("lp1")
    again, second = system.client("lp1", 60.0), system.client("lp1", 60.0)
    windows = [again.open_window() for _ in range(credits // 2)]
    system.kill("hypervisor")
    system.pass_time(RESTART_US)
    system.start_hypervisor()
    system.run_until(lambda: system.hypervisor.units.by_name["nx0"].usable)
    system.run_until(lambda: system.kernel("lp1").dialer.established)
    begin_to_open(second)
    system.pass_time(20_000)
    assert seconds(system, windows[0].close) <= 0.15
    system.run_until(lambda: len(system.kernel("lp1").kernel.driver.pools[CreditType.DEFAULT]) == credits // 2)
    assert system.hypervisor.recovering, "it has the credit of the close, long before the dead unit's fence"
