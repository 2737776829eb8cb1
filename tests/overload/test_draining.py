"""A hypervisor that is asked to stop: hcalls under way are answered, new ones are put off by name. Virtual clock."""

from __future__ import annotations

from protocol.clock import MILLISECOND_US
from protocol.codes import ExitCode, HcallCode
from protocol.hcall_messages import HcallStatus
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from protocol.wire import Envelope
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.fake_lpar import modify


def test_a_hypervisor_without_hcalls_under_way_ends_at_once() -> None:
    cluster = Cluster().start()
    cluster.lpars["lp1"].open_window()
    cluster.core.stop(cluster.now_us)
    assert cluster.core.effects.exit is not None
    assert cluster.core.effects.exit.code is ExitCode.OK


def test_an_hcall_under_way_is_answered_before_the_end_and_a_new_one_is_put_off() -> None:
    cluster = Cluster().start()
    lp1, lp2, core = cluster.lpars["lp1"], cluster.lpars["lp2"], cluster.core
    window, other = lp1.allocate(), lp2.allocate()
    for unit in cluster.units.values():
        unit.mute = True
    number = lp1.send(modify(window.window_id))
    cluster.pump()
    core.stop(cluster.now_us)
    assert core.effects.exit is None, "a unit is still to answer"
    heard: list[object] = []
    receive = lp2.receive

    def hear(envelope: Envelope) -> None:
        heard.append(envelope.body)
        receive(envelope)

    lp2.receive = hear  # type: ignore[method-assign]
    late = lp2.send(modify(other.window_id))
    cluster.pump()
    refusals = [body for body in heard if isinstance(body, Refused)]
    assert [refusal.code for refusal in refusals] == [RefusalCode.DRAINING]
    assert core.effects.exit is None
    patience_us = cluster.system.times.hcall_patience_ms * MILLISECOND_US
    cluster.advance(patience_us)
    assert lp1.answers[number] == HcallStatus(code=HcallCode.H_LONG_BUSY_ORDER_10_MSEC)
    assert core.effects.exit is not None
    assert core.effects.exit.code is ExitCode.OK
    assert late not in lp2.answers


def test_what_was_put_off_is_carried_out_by_the_next_hypervisor() -> None:
    cluster = Cluster().start()
    lp1 = cluster.lpars["lp1"]
    window = lp1.allocate()
    cluster.core.stop(cluster.now_us)
    number = lp1.send(modify(window.window_id))
    cluster.pump()
    cluster.restart()
    cluster.wait(lambda: number in lp1.answers)
    assert lp1.answers[number] == HcallStatus(code=HcallCode.H_SUCCESS)
