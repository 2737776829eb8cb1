"""The hypervisor's metrics say what its tables say."""

from __future__ import annotations

import re
from collections.abc import Mapping

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.codes import CreditType, HcallCode
from protocol.console_messages import ChangeProcessors
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow
from protocol.metrics import Distribution, MetricKind
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.fake_lpar import modify, refuse


def values(cluster: Cluster, name: str) -> Mapping[tuple[str, ...], float | Distribution]:
    """A family's values by labels; the family exists exactly once."""
    found = [family for family in cluster.core.metrics() if family.name == name]
    assert len(found) == 1, name
    return {sample.labels: sample.value for sample in found[0].samples}


def value(cluster: Cluster, name: str, *labels: str) -> float:
    got = values(cluster, name).get(labels, 0)
    assert not isinstance(got, Distribution)
    return got


def durations(cluster: Cluster, hcall: str) -> Distribution:
    got = values(cluster, "vasbus_hcall_seconds")[(hcall,)]
    assert isinstance(got, Distribution)
    return got


def test_every_family_is_well_formed(cluster: Cluster) -> None:
    cluster.lpars["lp1"].open_window()
    cluster.dlpar("lp1", -1)
    families = cluster.core.metrics()
    assert len({family.name for family in families}) == len(families) == 14
    for family in families:
        assert re.fullmatch(r"vasbus_[a-z_]+", family.name), family.name
        assert family.name.endswith("_total") == (family.kind is MetricKind.COUNTER), family.name
        assert family.meaning.endswith("."), family.name
        labels = [sample.labels for sample in family.samples]
        assert labels == sorted(set(labels)), family.name
        assert all(len(sample.labels) == len(family.label_names) for sample in family.samples), family.name


def test_looking_changes_nothing(cluster: Cluster) -> None:
    cluster.lpars["lp1"].open_window()
    assert cluster.core.metrics() == cluster.core.metrics()
    effects = cluster.core.effects.take()
    assert (effects.writes, effects.transmissions, effects.published) == ([], [], [])


def test_credits_are_shown_by_partition_and_type(cluster: Cluster) -> None:
    cluster.qos("lp1", 4)
    for credit_type in (CreditType.QOS, CreditType.DEFAULT, CreditType.DEFAULT):
        cluster.lpars["lp1"].open_window(credit_type)
    assert values(cluster, "vasbus_credits_target") == {
        ("lp1", "default"): 36, ("lp1", "qos"): 4, ("lp2", "default"): 40, ("lp2", "qos"): 0,
        ("lp3", "default"): 16, ("lp3", "qos"): 0,
    }  # fmt: skip
    assert value(cluster, "vasbus_credits_in_use", "lp1", "default") == 2
    assert value(cluster, "vasbus_credits_in_use", "lp1", "qos") == 1
    assert value(cluster, "vasbus_credits_in_use", "lp2", "default") == 0


def test_windows_are_shown_by_state(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    lp1.allocate()
    lp1.open_window()
    closing = lp1.open_window(chip=0)
    nx0.contexts[closing.window_id].in_flight = 1
    lp1.status_of(HDeallocateVasWindow(window_id=closing.window_id))
    states = {("lp1", "default", state): 1 for state in ("reserved", "open", "closing")}
    assert values(cluster, "vasbus_windows") == states
    lp1.die()
    cluster.advance(11 * SECOND_US)
    assert values(cluster, "vasbus_windows") == {("lp1", "default", "fenced"): 1}


def test_hcalls_are_counted_by_name_and_return_code(cluster: Cluster) -> None:
    lp3 = cluster.lpars["lp3"]
    for _ in range(18):
        lp3.allocate()
    lp3.fetch(4711)
    assert values(cluster, "vasbus_hcalls_total") == {
        ("h_allocate_vas_window", "H_RESOURCE"): 2,
        ("h_allocate_vas_window", "H_SUCCESS"): 16,
        ("h_get_nx_fault", "H_PARAMETER"): 1,
    }


def test_an_hcall_that_is_repeated_counts_once(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    losses = [1]
    cluster.loses = lambda name, body: (
        name == "lp1" and body.type == "window_allocated" and bool(losses and losses.pop())
    )
    assert lp1.ask(HAllocateVasWindow(window_type=1, credits=1, domain=(0,) * 6))
    assert not losses
    assert values(cluster, "vasbus_hcalls_total") == {("h_allocate_vas_window", "H_SUCCESS"): 1}


def test_the_time_of_an_hcall_runs_from_its_arrival_to_its_answer(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.allocate(chip=0).window_id
    assert durations(cluster, "h_allocate_vas_window").sum_us == 0
    nx0.mute = True
    number = lp1.send(modify(window_id))
    cluster.advance(20 * MILLISECOND_US)
    assert value(cluster, "vasbus_hcalls_waiting") == 1
    nx0.mute = False
    nx0.speak()
    cluster.pump()
    assert number in lp1.answers
    assert value(cluster, "vasbus_hcalls_waiting") == 0
    waited = durations(cluster, "h_modify_vas_window")
    assert (sum(waited.counts), waited.sum_us) == (1, 20 * MILLISECOND_US)


def test_a_long_busy_hcall_took_the_hypervisors_patience(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window_id = lp1.allocate(chip=0).window_id
    cluster.units["nx0"].mute = True
    assert lp1.status_of(modify(window_id)) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    assert durations(cluster, "h_modify_vas_window").sum_us == cluster.system.times.hcall_patience_ms * MILLISECOND_US
    assert value(cluster, "vasbus_hcalls_total", "h_modify_vas_window", "H_LONG_BUSY_ORDER_10_MSEC") == 1


def test_sessions_and_units_are_counted(cluster: Cluster) -> None:
    assert values(cluster, "vasbus_sessions") == {("fabric",): 2, ("hcall",): 3, ("hmc",): 1}
    states = values(cluster, "vasbus_units")
    assert states == {("absent",): 0, ("fenced",): 0, ("running",): 2, ("starting",): 0, ("suspected",): 0}
    cluster.units["nx0"].die()
    cluster.lpars["lp1"].die()
    cluster.advance(35 * SECOND_US)
    assert values(cluster, "vasbus_sessions") == {("fabric",): 1, ("hcall",): 2, ("hmc",): 1}
    assert value(cluster, "vasbus_units", "fenced") == 1


def test_steps_of_changes_are_counted_and_their_queue_is_shown(cluster: Cluster) -> None:
    cluster.dlpar("lp1", -1)
    cluster.lpars["lp1"].verdict = refuse
    cluster.qos("lp1", 5)
    assert values(cluster, "vasbus_configuration_changes_total") == {
        (kind, step): 1
        for kind, steps in (("cpu", ("acknowledged",)), ("qos", ("refused",)))
        for step in ("queued", "applied", "notified", *steps)
    }
    cluster.lpars["lp2"].follows = False
    for _ in range(3):
        cluster.console.send(ChangeProcessors(lpar="lp2", cores=1, wait_ms=60_000))
    cluster.pump()
    assert values(cluster, "vasbus_configuration_changes_queued") == {("lp1",): 0, ("lp2",): 3, ("lp3",): 0}


def test_faults_are_shown_while_they_wait_and_until_their_credit_is_back(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    windows = [lp1.open_window(chip=0).window_id for _ in range(2)]
    for window_id in windows:
        nx0.fault(window_id)
    cluster.pump()
    assert values(cluster, "vasbus_nx_faults") == {("fetched",): 0, ("waiting",): 2}
    nx0.mute = True
    lp1.fetch(windows[0])
    assert values(cluster, "vasbus_nx_faults") == {("fetched",): 1, ("waiting",): 1}
    nx0.mute = False
    nx0.speak()
    cluster.pump()
    assert values(cluster, "vasbus_nx_faults") == {("fetched",): 0, ("waiting",): 1}


def test_the_telemetry_stream_is_counted_by_its_numbers(cluster: Cluster) -> None:
    cluster.lpars["lp1"].open_window()
    assert value(cluster, "vasbus_telemetry_published_total") == cluster.status().telemetry_sequence > 0


def test_recovery_is_shown(cluster: Cluster) -> None:
    cluster.lpars["lp1"].open_window(chip=0)
    assert value(cluster, "vasbus_recovering") == 0
    cluster.units["nx0"].die()
    cluster.restart()
    assert value(cluster, "vasbus_recovering") == 1
    cluster.advance(32 * SECOND_US)
    assert value(cluster, "vasbus_recovering") == 0
