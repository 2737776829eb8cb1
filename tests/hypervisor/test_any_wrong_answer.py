"""Any wrong answer of an NX unit, at any time, frees no credit; and none is lost by it (design.md, "Wire")."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from protocol.clock import SECOND_US
from protocol.codes import HcallCode
from protocol.fabric_answers import contradiction
from protocol.fabric_messages import (
    ContextClosed,
    ContextProgrammed,
    CreditReturned,
)
from protocol.hcall_messages import HDeallocateVasWindow
from protocol.message import Reply
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from protocol.wire import Envelope, refuse
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.fake_unit import FakeUnit
from tests.hypervisor.test_wrong_answers import REFUSED, honest, listed

LEASE_US = 10_100_000


@dataclass(frozen=True)
class Saying:
    """An answer that the unit gives of its own accord: to the request at this place among those on the wire."""

    reply: Reply | Refused
    place: int
    epoch_off_by: int


IDS = st.integers(0, 5)
ANY_REPLY = st.one_of(
    st.builds(ContextClosed, window_id=IDS, bytes_processed=st.just(0)),
    st.builds(ContextProgrammed, window_id=IDS, accepted=st.booleans(), in_flight=st.integers(0, 1)),
    st.builds(CreditReturned, window_id=IDS, number=st.integers(0, 3)),
    st.lists(IDS, max_size=3).map(lambda ids: listed(*ids)),
    st.just(REFUSED),
)
ANY_SAYING = st.builds(Saying, ANY_REPLY, st.integers(0, 12), st.sampled_from([0, 0, 0, -1, 1]))
DEEDS = st.lists(
    st.one_of(
        ANY_SAYING,
        ANY_SAYING,
        ANY_REPLY,
        st.integers(1, 4).map(lambda window_id: HDeallocateVasWindow(window_id=window_id)),
        st.sampled_from(["wait", "wait", "die", "restart", "lose"]),
    ),
    max_size=14,
)


Deed = Saying | Reply | Refused | HDeallocateVasWindow | str


@hypothesis_settings(max_examples=100, deadline=None)
@given(deeds=DEEDS)
def test_no_wrong_answer_at_any_time_frees_a_credit(deeds: list[Deed]) -> None:
    """Every window has a request in flight, so that a unit that tells the truth closes none of them."""
    cluster = Cluster().start()
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    windows = [lp1.open_window(chip=0) for _ in range(4)]
    for window in windows:
        nx0.contexts[window.window_id].in_flight = 1
        lp1.send(HDeallocateVasWindow(window_id=window.window_id))
    cluster.pump()
    for deed in deeds:
        do(cluster, nx0, deed)
        cluster.pump()
        assert len(cluster.core.ledger.windows) == 4
    nx0.twists = honest
    for window in windows:
        nx0.complete(window.window_id)
    cluster.advance(40 * SECOND_US)
    if lp1.running:  # a call of before may have been answered with success in the meantime
        codes = {lp1.deallocate(window.window_id) for window in windows}
        assert codes <= {HcallCode.H_SUCCESS, HcallCode.H_PARAMETER}
    assert cluster.pool("lp1") == (40, 0)
    assert nx0.contexts == {}


def do(cluster: Cluster, nx0: FakeUnit, deed: Deed) -> None:
    """One step: something is said unasked, answers are another from now on, or the others do something."""
    lp1 = cluster.lpars["lp1"]
    if isinstance(deed, Saying):
        say(cluster, nx0, deed)
    elif isinstance(deed, HDeallocateVasWindow):
        if lp1.running:
            lp1.send(deed)
    elif isinstance(deed, Reply | Refused):
        said = deed
        nx0.twists = lambda _truth: said
    elif deed == "wait":
        cluster.advance(SECOND_US)
    elif deed == "restart":
        cluster.restart()
    elif deed == "lose":
        nx0.session_ended(refuse(RefusalCode.SESSION_DEAD, "a live session", "a dead one"))
    elif lp1.running:
        lp1.die()
        cluster.advance(LEASE_US + SECOND_US)


def say(cluster: Cluster, nx0: FakeUnit, saying: Saying) -> None:
    """Unless it is what the unit would truly say to what it was asked, once its requests had ended."""
    session = cluster.core.fabric.sessions.get("nx0")
    if session is None or nx0.peer is None:
        return
    outstanding = list(session.caller.outstanding.values())
    entry = outstanding[saying.place % len(outstanding)] if outstanding else None
    number = saying.place if entry is None else entry.number
    fits = entry is not None and not contradiction(entry.body, saying.reply)
    if fits and isinstance(saying.reply, ContextClosed) and not saying.epoch_off_by:
        return
    envelope = Envelope(saying.reply, session.epoch + saying.epoch_off_by, number)
    cluster.core.receive("fabric", nx0.peer, envelope, cluster.now_us)
