"""Ten thousand opens at once where there are 320 credits: 320 windows, and a name for every refusal."""

from __future__ import annotations

import time

from protocol.codes import CreditType
from protocol.fabric_messages import ContextClosed, ContextProgrammed
from protocol.message import Message
from protocol.system import SystemSettings, parse_system
from tests.abuse.standing import rss_kib
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.overload.conftest import PARTS, SYSTEM
from tests.overload.crowd import crowd_of
from tests.overload.joined import Joined
from tests.overload.opening import OPENED, AtOnce
from tests.processes.cluster import Cluster, eventually

CLIENTS, EACH = 200, 50
OPENS = CLIENTS * EACH
CREDITS = 320
MEMORY_MOST_KIB = 96 * 1024
"""200 connections with full queues, and 10,000 descriptors."""
SETTLE_US = 15_000_000
SETTINGS = parse_system(SYSTEM, "overload")
HASTY = SETTINGS.model_copy(update={"times": SETTINGS.times.model_copy(update={"kernel_deadline_ms": 2_000})})
SMALL_UNIT = SETTINGS.model_copy(update={"limits": SETTINGS.limits.model_copy(update={"windows_per_unit": 100})})


def with_clients(settings: SystemSettings) -> tuple[Joined, AtOnce]:
    """A system whose clients are all at lp1 and have opened the device."""
    joined = Joined(settings, lpars=["lp1"], clients=CLIENTS)
    opens = AtOnce(joined.clients, EACH)
    opens.devices()
    joined.run(opens.is_answered, "the device is open")
    return joined, opens


def standing(joined: Joined) -> dict[str, object]:
    """What must be afterwards as it was before."""
    kernel = joined.kernel("lp1").kernel
    return {
        "idle": kernel.is_idle,
        "credits": (joined.in_use("lp1"), kernel.driver.pools[CreditType.DEFAULT].used),
        "windows": len(joined.hypervisor.ledger.windows),
        "contexts": len(list(joined.unit("nx0").contexts)),
        "mutex": len(kernel.driver.mutex),
        "hcalls": sum(map(len, joined.hypervisor.hcalls.waiting.values())),
    }


def ended(joined: Joined, opens: AtOnce) -> None:
    """Every descriptor is closed; nothing of it all is left, and as many windows can be had once more."""
    opens.close()
    joined.run(opens.is_answered, "every descriptor is closed")
    assert opens.closed == OPENS
    joined.pass_time(SETTLE_US)
    nothing = {"idle": True, "credits": (0, 0), "windows": 0, "contexts": 0, "mutex": 0, "hcalls": 0}
    assert standing(joined) == nothing


def test_ten_thousand_opens_take_every_credit_and_the_rest_is_refused() -> None:
    joined, opens = with_clients(SETTINGS)
    opens.windows()
    joined.run(opens.is_answered, "every open is answered")
    assert opens.outcomes == {OPENED: CREDITS, "no_credit": OPENS - CREDITS}
    assert joined.in_use("lp1") == CREDITS
    ended(joined, opens)


def test_opens_beyond_the_units_room_name_the_hypervisors_code() -> None:
    joined, opens = with_clients(SMALL_UNIT)
    opens.windows()
    joined.run(opens.is_answered, "every open is answered")
    room = SMALL_UNIT.limits.windows_per_unit
    assert opens.outcomes[OPENED] == room
    assert opens.outcomes["hcall_failed H_CONSTRAINED"] >= CREDITS - room
    assert opens.outcomes.total() == OPENS
    assert opens.outcomes.keys() == {OPENED, "hcall_failed H_CONSTRAINED", "no_credit"}
    ended(joined, opens)


def test_opens_that_a_silent_unit_keeps_waiting_end_by_their_deadline() -> None:
    joined, opens = with_clients(HASTY)
    began_us = joined.now_us

    def by_the_unit(name: str, body: Message) -> bool:
        return name == "nx0" and isinstance(body, ContextProgrammed | ContextClosed)

    joined.kept_back = by_the_unit
    opens.windows()
    joined.run(opens.is_answered, "every open is answered")
    deadline_us = HASTY.times.kernel_deadline_ms * 1000
    assert opens.outcomes == {OPENED: 0, "hcall_busy": CREDITS, "no_credit": OPENS - CREDITS}
    assert deadline_us <= joined.now_us - began_us < deadline_us + 1_000_000
    contexts = len(list(joined.unit("nx0").contexts))
    assert 0 < contexts <= joined.in_use("lp1"), "a credit whose context may be at the unit is not free"
    joined.kept_back = lambda _name, _body: False
    joined.run(lambda: joined.in_use("lp1") == 0, "what the opens had got is undone")
    ended(joined, opens)


@failure(
    "overload",
    "10,000 opens at once where there are 320 credits",
    seen="320 windows; every other open is EINVAL with the reason `no_credit`, from the kernel's own count.",
    lasts="At once; an open that has to wait ends by the kernel's deadline (`times.kernel_deadline_ms`).",
    kept="Every credit: once they are closed all 320 can be had again; memory.",
)
def test_ten_thousand_opens_at_once_by_two_hundred_clients(cluster: Cluster, figure: Figure) -> None:
    device = cluster.folder.addresses().device["lp1"]
    with crowd_of(CLIENTS, [device]) as crowd:
        before = {part: rss_kib(cluster.pid(part)) for part in PARTS}
        for each in (EACH, 2):
            opens = AtOnce(crowd.members, each)
            opens.devices()
            crowd.run(opens.is_answered, "the device is open")
            began = time.monotonic()
            opens.windows()
            crowd.run(opens.is_answered, "every open is answered")
            figure(f"to the last of {CLIENTS * each:,} answers", time.monotonic() - began, "s")
            assert opens.outcomes == {OPENED: CREDITS, "no_credit": CLIENTS * each - CREDITS}
            assert {row.window_id for row in cluster.windows("lp1")} == opens.opened
            opens.close()
            crowd.run(opens.is_answered, "every descriptor is closed")
            assert cluster.in_use("lp1") == 0
        grown = {part: rss_kib(cluster.pid(part)) - before[part] for part in PARTS}
        figure("most memory that a process grew by", max(grown.values()) / 1024, "MiB")
        assert max(grown.values()) < MEMORY_MOST_KIB, grown
    eventually(lambda: not cluster.windows(), "no window is left")
