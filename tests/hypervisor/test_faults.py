"""Translation faults wait in the hypervisor until the kernel fetches them. Source: domain.md 1, 2.8, 5.8."""

from __future__ import annotations

import pytest

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.codes import HcallCode
from protocol.effects import Effects
from protocol.fabric_messages import CreditReturned, FaultNoted, FaultRaised, ReturnCredit
from protocol.hcall_messages import FaultInterrupt, HGetNxFault, NxFault
from protocol.message import Message
from protocol.telemetry_messages import FaultMoved
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, told
from tests.hypervisor.fake_unit import fault_of
from tests.hypervisor.faulted import faulted, opened, rows

LEASE_US = 11 * SECOND_US


# A fault and its fetching.


@fidelity(
    "3 faults",
    "A fault raises the fault interrupt of its window, which H_ALLOCATE_VAS_WINDOW named.",
    source="K:vas.c",
)
def test_a_fault_interrupts_the_windows_partition_and_nobody_else(cluster: Cluster) -> None:
    window_id = faulted(cluster)
    notice = told(next(n for n in cluster.lpars["lp1"].notices if isinstance(n, FaultInterrupt)), FaultInterrupt)
    assert (notice.window_id, notice.number) == (window_id, 1)
    assert cluster.lpars["lp2"].interrupts == cluster.lpars["lp3"].interrupts == []


@fidelity(
    "3 faults",
    "A fault raises the fault interrupt of its window, which H_ALLOCATE_VAS_WINDOW named.",
    source="K:vas.c",
)
def test_the_interrupt_is_the_one_that_the_allocation_named(cluster: Cluster) -> None:
    window = cluster.lpars["lp1"].open_window(chip=0)
    cluster.units["nx0"].fault(window.window_id)
    cluster.pump()
    notice = told(cluster.lpars["lp1"].notices[-1], FaultInterrupt)
    assert notice.interrupt == window.fault_interrupt != window.completion_interrupt


@fidelity(
    "3 faults",
    "H_GET_NX_FAULT writes the faulted CRB into the kernel's buffer, with the faulting address in its stamp and"
    " the sender's status block address.",
    source="K:icswx.h",
)
def test_the_kernel_fetches_the_faulted_request_with_its_addresses(cluster: Cluster) -> None:
    window_id = faulted(cluster)
    fault = fault_of(window_id, 1)
    assert cluster.lpars["lp1"].fetch(window_id) == NxFault(
        code=HcallCode.H_SUCCESS,
        window_id=window_id,
        number=1,
        function=fault.function,
        fault_address=fault.fault_address,
        csb_address=fault.csb_address,
    )


@fidelity(
    "1 hcalls",
    "The window credit of a faulted request is returned when H_GET_NX_FAULT succeeds, and not before.",
    source="ML:23a3cf6124",
)
def test_the_window_credit_is_back_only_when_the_fault_was_fetched(cluster: Cluster) -> None:
    window_id = faulted(cluster)
    nx0 = cluster.units["nx0"]
    cluster.advance(40 * SECOND_US)
    assert nx0.faults == [fault_of(window_id, 1, nx0.contexts[window_id].token)]
    cluster.lpars["lp1"].fetch(window_id)
    cluster.pump()
    assert nx0.faults == []


@fidelity("1 hcalls", "H_GET_NX_FAULT without an outstanding fault is H_STATE.", source="ML:23a3cf6124")
def test_a_fault_can_be_fetched_once(cluster: Cluster) -> None:
    window_id = faulted(cluster)
    assert cluster.lpars["lp1"].fetch(window_id).code is HcallCode.H_SUCCESS
    assert cluster.lpars["lp1"].fetch(window_id) == NxFault(code=HcallCode.H_STATE)


@fidelity("1 hcalls", "H_GET_NX_FAULT without an outstanding fault is H_STATE.", source="ML:23a3cf6124")
def test_a_window_without_a_fault_has_none_to_fetch(cluster: Cluster) -> None:
    assert cluster.lpars["lp1"].fetch(opened(cluster)).code is HcallCode.H_STATE


@fidelity(
    "1 hcalls",
    "H_GET_NX_FAULT for a window that the partition does not have is H_PARAMETER.",
    source="ML:23a3cf6124",
)
def test_anybody_elses_window_is_a_wrong_parameter(cluster: Cluster) -> None:
    window_id = faulted(cluster)
    assert cluster.lpars["lp2"].fetch(window_id).code is HcallCode.H_PARAMETER
    assert cluster.lpars["lp1"].fetch(4711).code is HcallCode.H_PARAMETER
    assert cluster.lpars["lp1"].fetch(window_id).code is HcallCode.H_SUCCESS


@fidelity("1 hcalls", "H_GET_NX_FAULT with a bad buffer is H_PRIVILEGE.", source="ML:23a3cf6124")
@pytest.mark.parametrize("buffer_address", [1, 64, 127, 0x8001, 1 << 56, (1 << 64) - 128])
def test_a_buffer_off_its_128_bytes_is_refused_and_the_fault_stays(cluster: Cluster, buffer_address: int) -> None:
    window_id = faulted(cluster)
    assert cluster.lpars["lp1"].fetch(window_id, buffer_address).code is HcallCode.H_PRIVILEGE
    assert cluster.lpars["lp1"].fetch(window_id, 128).code is HcallCode.H_SUCCESS


def test_windows_have_their_own_faults(cluster: Cluster) -> None:
    first, second = faulted(cluster), faulted(cluster, 7)
    assert cluster.lpars["lp1"].fetch(second).number == 7
    assert cluster.lpars["lp1"].fetch(first).number == 1


@fidelity(
    "3 faults", "One interrupt is one fault, and each call of H_GET_NX_FAULT fetches one request.", source="K:vas.c"
)
def test_the_oldest_fault_comes_first(cluster: Cluster) -> None:
    window_id = faulted(cluster, 5)
    cluster.units["nx0"].contexts[window_id].faults.clear()
    cluster.units["nx0"].fault(window_id, 6)
    cluster.pump()
    lp1 = cluster.lpars["lp1"]
    assert [lp1.fetch(window_id).number for _ in range(2)] == [5, 6]


@fidelity(
    "3 faults", "One interrupt is one fault, and each call of H_GET_NX_FAULT fetches one request.", source="K:vas.c"
)
def test_two_faults_of_a_window_in_a_row_are_both_served(cluster: Cluster) -> None:
    window_id, lp1, nx0 = faulted(cluster), cluster.lpars["lp1"], cluster.units["nx0"]
    for number in range(1, 20):
        assert lp1.fetch(window_id).number == number
        cluster.pump()
        nx0.fault(window_id)
        cluster.pump()
    assert len(rows(cluster)) == 2


@pytest.mark.parametrize("number", [0, 1 << 63, (1 << 64) - 1])
def test_any_64_bit_number_and_address_of_a_sender_can_be_stored(cluster: Cluster, number: int) -> None:
    window_id = faulted(cluster, number)
    cluster.restart()
    cluster.advance(3 * SECOND_US)
    fault = cluster.lpars["lp1"].fetch(window_id)
    assert (fault.number, fault.csb_address) == (number, fault_of(window_id, number).csb_address)


# The interrupt.


@fidelity(
    "3 faults",
    "The hypervisor raises the interrupt of a fault once.",
    source="K:vas.c",
    differs="It repeats it with growing pauses until the fault is fetched: messages can be lost.",
)
def test_the_interrupt_is_repeated_with_growing_pauses_until_the_fault_is_fetched(cluster: Cluster) -> None:
    window_id, lp1 = opened(cluster), cluster.lpars["lp1"]
    began_us = cluster.now_us
    moments: list[int] = []

    def watch(_name: str, body: Message) -> bool:
        if isinstance(body, FaultInterrupt):
            moments.append(cluster.now_us - began_us)
        return False

    cluster.loses = watch
    cluster.units["nx0"].fault(window_id)
    cluster.advance(4 * SECOND_US)
    assert [moment // MILLISECOND_US for moment in moments] == [0, 50, 150, 350, 750, 1550, 2550, 3550]
    lp1.fetch(window_id)
    heard = len(moments)
    cluster.advance(10 * SECOND_US)
    assert len(moments) == heard


def test_a_partition_that_was_away_is_interrupted_as_soon_as_it_is_heard(cluster: Cluster) -> None:
    window_id, lp1 = opened(cluster), cluster.lpars["lp1"]
    lp1.cut = True
    cluster.units["nx0"].fault(window_id)
    cluster.advance(7 * SECOND_US)
    lp1.cut = False
    cluster.wait(lambda: cluster.lpar_status("lp1").state == "running")
    assert set(lp1.interrupts) == {(window_id, 1)}
    assert lp1.fetch(window_id).number == 1


# Lost and doubled messages.


@pytest.mark.parametrize(
    "lost", [FaultRaised, FaultNoted, FaultInterrupt, HGetNxFault, NxFault, ReturnCredit, CreditReturned]
)
def test_a_lost_message_loses_no_fault_and_doubles_none(cluster: Cluster, lost: type[Message]) -> None:
    window_id, lp1, nx0 = opened(cluster), cluster.lpars["lp1"], cluster.units["nx0"]
    losses = [1]
    cluster.loses = lambda _name, body: isinstance(body, lost) and bool(losses and losses.pop())
    nx0.fault(window_id)
    cluster.wait(lambda: (window_id, 1) in lp1.interrupts)
    assert lp1.fetch(window_id).number == 1
    cluster.advance(5 * SECOND_US)
    assert (nx0.faults, losses) == ([], [])
    assert lp1.fetch(window_id).code is HcallCode.H_STATE
    assert rows(cluster) == [(1, "settled")]


def test_a_fault_that_is_told_again_is_one_fault(cluster: Cluster) -> None:
    window_id, lp1, nx0 = faulted(cluster), cluster.lpars["lp1"], cluster.units["nx0"]
    nx0.send(nx0.faults[0])
    cluster.pump()
    assert rows(cluster) == [(1, "waiting")]
    lp1.fetch(window_id)
    assert lp1.fetch(window_id).code is HcallCode.H_STATE


def test_a_fault_that_is_told_again_after_its_fetch_gets_its_credit_again(cluster: Cluster) -> None:
    """A unit that lost its memory runs a repeat of the paste; the kernel has served that number already."""
    window_id, lp1, nx0 = faulted(cluster), cluster.lpars["lp1"], cluster.units["nx0"]
    lp1.fetch(window_id)
    cluster.pump()
    lp1.notices.clear()
    nx0.die()
    nx0.start()
    cluster.wait(lambda: window_id in nx0.contexts)
    nx0.fault(window_id, 1)
    cluster.advance(2 * SECOND_US)
    assert (nx0.faults, lp1.interrupts) == ([], [])
    assert lp1.fetch(window_id).code is HcallCode.H_STATE


# Telemetry.


def test_every_step_of_a_fault_is_published(cluster: Cluster) -> None:
    steps: list[tuple[int, str]] = []
    settle = cluster._settle

    def watch(effects: Effects) -> None:
        told = [envelope.body for envelope in effects.published if isinstance(envelope.body, FaultMoved)]
        steps.extend((moved.number, moved.step) for moved in told)
        settle(effects)

    cluster._settle = watch  # type: ignore[method-assign]
    window_id, lp1 = faulted(cluster), cluster.lpars["lp1"]
    lp1.fetch(window_id)
    cluster.units["nx0"].fault(window_id)
    cluster.pump()
    lp1.die()
    cluster.advance(LEASE_US)
    assert steps == [(1, "raised"), (1, "fetched"), (1, "settled"), (2, "raised"), (2, "dropped")]
