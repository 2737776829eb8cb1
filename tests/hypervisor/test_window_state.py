"""H_QUERY_VAS_WINDOW. Source: domain.md 2.1."""

from __future__ import annotations

from protocol.codes import HcallCode, WindowStatus
from protocol.hcall_messages import HDeallocateVasWindow, HQueryVasWindow, WindowState
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, told
from tests.hypervisor.fake_lpar import modify


def state(cluster: Cluster, window_id: int, lpar: str = "lp1") -> WindowState:
    return told(cluster.lpars[lpar].ask(HQueryVasWindow(window_id=window_id)), WindowState)


@fidelity(
    "2 capabilities",
    "H_QUERY_VAS_WINDOW tells a window's type, status, credits, process, paste address and interrupts.",
    source="T:pvas.h",
)
@fidelity(
    "2 capabilities",
    "H_QUERY_VAS_WINDOW also tells the thread, the associativity and the bytes processed.",
    source="T:pvas.h",
    differs="They are 0: no thread is bound, and the hypervisor keeps neither of the others in its table.",
)
@fidelity("2 capabilities", "The status byte of a window is 0 while it is active.", source="T:pvas.h")
def test_an_open_window_is_active(cluster: Cluster) -> None:
    window = cluster.lpars["lp1"].open_window()
    told_state = state(cluster, window.window_id)
    assert window.paste_address is not None
    assert told_state == WindowState(
        code=HcallCode.H_SUCCESS,
        version=1,
        window_type=1,
        status=WindowStatus.ACTIVE,
        credits=1,
        process_id=77,
        paste_address=window.paste_address.address,
        completion_interrupt=window.completion_interrupt,
        fault_interrupt=window.fault_interrupt,
    )


@fidelity(
    "1 hcalls",
    "The arguments and codes of H_QUERY_VAS_WINDOW are not public; Linux never calls it.",
    source="T:pvas.h",
    differs="It takes the window id, and answers H_SUCCESS or, for a window that the partition does not have, "
    "H_PARAMETER.",
)
def test_a_window_that_does_not_exist_has_no_state(cluster: Cluster) -> None:
    assert state(cluster, 7).code is HcallCode.H_PARAMETER


@fidelity(
    "1 hcalls",
    "The arguments and codes of H_QUERY_VAS_WINDOW are not public; Linux never calls it.",
    source="T:pvas.h",
    differs="It takes the window id, and answers H_SUCCESS or, for a window that the partition does not have, "
    "H_PARAMETER.",
)
def test_a_foreign_window_has_no_state(cluster: Cluster) -> None:
    window = cluster.lpars["lp1"].open_window()
    assert state(cluster, window.window_id, "lp2").code is HcallCode.H_PARAMETER


@fidelity(
    "2 capabilities",
    "The status byte of a window that is being modified, deallocated or drained is 3.",
    source="T:pvas.h",
)
def test_a_window_is_busy_before_it_is_bound_and_while_it_drains(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.allocate().window_id
    assert state(cluster, window_id).status is WindowStatus.BUSY
    nx0.mute = True
    lp1.send(modify(window_id))
    assert state(cluster, window_id).status is WindowStatus.BUSY
    nx0.mute = False
    nx0.speak()
    cluster.pump()
    nx0.contexts[window_id].in_flight = 1
    lp1.status_of(HDeallocateVasWindow(window_id=window_id))
    assert state(cluster, window_id).status is WindowStatus.BUSY


@fidelity("2 capabilities", "The status byte of a closed window is 1.", source="T:pvas.h")
def test_a_drained_window_is_closed_until_the_kernel_gives_it_back(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.open_window().window_id
    nx0.contexts[window_id].in_flight = 1
    lp1.status_of(HDeallocateVasWindow(window_id=window_id))
    nx0.complete(window_id)
    cluster.pump()
    assert state(cluster, window_id).status is WindowStatus.CLOSED


@fidelity(
    "2 capabilities",
    "The status byte of a window that is inactive because of a hardware failure is 2.",
    source="T:pvas.h",
)
def test_a_window_on_a_lost_unit_has_failed_hardware_until_the_unit_is_back(cluster: Cluster) -> None:
    window_id = cluster.lpars["lp1"].open_window().window_id
    nx0 = cluster.units["nx0"]
    nx0.die()
    cluster.advance(31_000_000)
    assert state(cluster, window_id).status is WindowStatus.HARDWARE_FAILURE
    nx0.start()
    cluster.wait(lambda: window_id in nx0.contexts)
    assert state(cluster, window_id).status is WindowStatus.ACTIVE


def test_a_window_for_which_the_returned_unit_has_no_room_has_failed_hardware(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    first, second = (lp1.open_window(chip=0) for _ in range(2))
    nx0.die()
    cluster.advance(1_000_000)
    nx0.limit = 1
    nx0.start()
    cluster.wait(lambda: bool(nx0.contexts))
    cluster.pump()
    statuses = {state(cluster, window.window_id).status for window in (first, second)}
    assert statuses == {WindowStatus.ACTIVE, WindowStatus.HARDWARE_FAILURE}
    assert lp1.deallocate(first.window_id) is lp1.deallocate(second.window_id) is HcallCode.H_SUCCESS
    assert (nx0.contexts, cluster.windows()) == ({}, [])
