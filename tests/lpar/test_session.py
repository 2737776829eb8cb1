"""The partition as a process: boot, death of its session, shutdown (design.md, "Wire")."""

from __future__ import annotations

import pytest

from protocol.codes import CreditType, ExitCode, HcallCode, KernelReason
from protocol.device_messages import DeviceOpened, OpenDevice, OsFailure, ReadFile, TxWinOpen
from protocol.hcall_messages import (
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HQueryNxCapabilities,
    HQueryVasCapabilities,
)
from protocol.refusals import RefusalCode
from protocol.session import Ending
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import FakeHypervisor, Silence
from tests.lpar.partition import WINDOWS_FILE, Partition, booted


def fresh(default: int = 4, qos: int = 2) -> Partition:
    return Partition(FakeHypervisor({CreditType.DEFAULT: default, CreditType.QOS: qos}))


@fidelity(
    "2 capabilities",
    "At its start the kernel asks for the overall bits and then for each type that they name, QoS first.",
    source="K:vas.c",
)
def test_boot_asks_for_limits_then_for_every_window_type() -> None:
    partition = fresh()
    partition.settle()
    assert partition.hypervisor.made == [
        HQueryNxCapabilities(query_type=0),
        HQueryNxCapabilities(query_type=1),
        HQueryVasCapabilities(query_type=0),
        HQueryVasCapabilities(query_type=1),
        HQueryVasCapabilities(query_type=2),
    ]
    assert partition.core.statistics().pools[CreditType.DEFAULT].total == 4
    assert partition.core.statistics().pools[CreditType.QOS].total == 2


def test_before_the_boot_has_finished_system_calls_are_put_off() -> None:
    partition = fresh()
    partition.hypervisor.returns(HQueryVasCapabilities, Silence.HOLD)
    partition.settle()
    client = partition.process()
    number = partition.call(client, OpenDevice())
    partition.advance(1_000)
    assert number not in client.answers
    partition.hypervisor.release()
    partition.advance(200)
    partition.answer(client, number, DeviceOpened)


@fidelity(
    "1 errnos",
    "A capability query that fails with H_FUNCTION is silent, because the hypervisor has no VAS; any other "
    "failure is logged.",
    source="K:vas.c",
)
@pytest.mark.parametrize("code", [HcallCode.H_FUNCTION, HcallCode.H_HARDWARE])
def test_without_vas_the_partition_runs_on_without_a_device(code: HcallCode) -> None:
    partition = fresh()
    partition.hypervisor.returns(HQueryVasCapabilities, code)
    partition.settle()
    client = partition.process()
    partition.fails(client, OpenDevice(), KernelReason.NO_DEVICE)
    assert partition.read(WINDOWS_FILE)
    complained = "capabilities_query_failed" in [line.event for line in partition.log]
    assert complained is (code is not HcallCode.H_FUNCTION)


@fidelity(
    "2 capabilities",
    "A type whose user mode does not include copy/paste (0x01) leaves the partition without the device.",
    source="K:vas.c",
)
@fidelity(
    "3 ioctl",
    "Where the hypervisor does not offer user-mode copy/paste there is no device to open.",
    source="K:vas.c",
)
def test_without_user_mode_copy_paste_there_is_no_device() -> None:
    partition = Partition(FakeHypervisor({CreditType.DEFAULT: 4, CreditType.QOS: 2}, user_mode=0x10))
    partition.settle()
    partition.fails(partition.process(), OpenDevice(), KernelReason.NO_DEVICE)


@fidelity(
    "2 capabilities",
    "A failing query of the default type leaves the partition without the device, whatever the QoS type said.",
    source="K:vas.c",
)
def test_a_failing_query_of_one_type_takes_the_device_away_altogether() -> None:
    partition = fresh()
    partition.hypervisor.fails_at(HQueryVasCapabilities, 2, HcallCode.H_PARAMETER)
    partition.settle()
    assert partition.credits(CreditType.QOS) == (2, 0)
    partition.fails(partition.process(), OpenDevice(), KernelReason.NO_DEVICE)


def test_a_short_silence_of_the_hypervisor_costs_no_window() -> None:
    partition = booted(2)
    (window,) = partition.open_windows(1)
    partition._hcall_peer = b"nowhere"
    partition.advance(8_000)
    partition.open_window(window.client)
    assert partition.credits() == (2, 2)
    assert partition.hypervisor.windows.keys() == {1, 2}


def test_a_dead_session_restarts_the_partition_with_fresh_state() -> None:
    partition = booted(3)
    windows = partition.open_windows(3)
    partition.retarget(2)
    session = next(iter(partition.hypervisor.listener.sessions.values()))
    partition.hypervisor.listener.close(session, Ending.LEASE)
    partition.hypervisor.windows.clear()
    partition.advance(2_000)
    client = windows[0].client
    number = client.dialer.call(client.dialer.session, ReadFile(path=WINDOWS_FILE), partition.now_us)
    partition.advance(2_000)
    assert number not in client.answers
    assert client.ended is not None
    assert client.ended.code is RefusalCode.SESSION_DEAD
    assert partition.credits() == (2, 0)
    assert partition.listing() == []
    assert partition.core.statistics().opens == 0
    successor = next(iter(partition.hypervisor.listener.sessions.values()))
    assert successor.incarnation != session.incarnation
    assert partition.core.effects.exit is None
    partition.open_window(partition.process())


def test_an_unknown_name_ends_the_process() -> None:
    hypervisor = FakeHypervisor({CreditType.DEFAULT: 1, CreditType.QOS: 0}, refuses=RefusalCode.UNKNOWN_NAME)
    partition = Partition(hypervisor)
    partition.settle()
    exit_wish = partition.core.effects.exit
    assert exit_wish is not None
    assert exit_wish.code is ExitCode.REFUSED
    assert "unknown_name" in exit_wish.reason


def test_a_name_in_use_is_waited_for() -> None:
    hypervisor = FakeHypervisor({CreditType.DEFAULT: 1, CreditType.QOS: 0}, refuses=RefusalCode.IN_USE)
    partition = Partition(hypervisor)
    partition.advance(3_000)
    assert partition.core.effects.exit is None
    hypervisor.refuses = None
    partition.advance(1_000)
    assert partition.core.kernel.booted


def test_stop_closes_every_window_and_takes_leave() -> None:
    partition = booted(4)
    windows = partition.open_windows(4)
    partition.mmap(windows[1])
    partition.retarget(3)
    partition.hypervisor.made.clear()
    partition.core.stop(partition.now_us)
    partition.settle()
    assert partition.hypervisor.made == [HDeallocateVasWindow(window_id=number) for number in (1, 2, 3)]
    assert not partition.hypervisor.windows
    assert not partition.hypervisor.listener.sessions
    exit_wish = partition.core.effects.exit
    assert exit_wish is not None
    assert exit_wish.code is ExitCode.OK


def test_while_stopping_opens_are_enodev_and_running_ones_are_closed() -> None:
    partition = booted(4)
    (window,) = partition.open_windows(1)
    client = partition.process()
    descriptor = partition.device(client)
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    partition.call(client, TxWinOpen(descriptor=descriptor, vas_id=0))
    partition.core.stop(partition.now_us)
    partition.settle()
    partition.fails(client, OpenDevice(), KernelReason.NO_DEVICE)
    failure = partition.fails(window.client, TxWinOpen(descriptor=window.descriptor), KernelReason.DEAD)
    assert isinstance(failure, OsFailure)
    assert partition.core.effects.exit is None
    partition.hypervisor.release()
    partition.settle()
    assert not partition.hypervisor.windows
    assert partition.core.effects.exit is not None


def test_stop_is_bounded_by_the_kernels_deadline() -> None:
    partition = booted(4)
    partition.open_windows(1)
    partition.hypervisor.always[HDeallocateVasWindow] = HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    partition.core.stop(partition.now_us)
    partition.advance(9_990)
    assert partition.core.effects.exit is None
    partition.advance(20)
    exit_wish = partition.core.effects.exit
    assert exit_wish is not None
    assert exit_wish.code is ExitCode.UNFINISHED
    assert "left behind: 1 windows, 1 operations under way" in exit_wish.reason


def test_stop_without_a_session_ends_at_once() -> None:
    partition = fresh()
    partition.core.stop(partition.now_us)
    assert partition.core.effects.exit is not None


def test_statistics_are_a_snapshot() -> None:
    partition = booted(2)
    (window,) = partition.open_windows(1)
    partition.fails(window.client, TxWinOpen(descriptor=window.descriptor), KernelReason.WINDOW_EXISTS)
    partition.retarget(0)
    partition.retarget(1)
    partition.close(window)
    statistics = partition.core.statistics()
    assert (statistics.opens, statistics.closed, statistics.reopened, statistics.released) == (1, 1, 1, 1)
    assert statistics.refusals == {KernelReason.WINDOW_EXISTS: 1}
    assert statistics.hcalls == {HcallCode.H_SUCCESS: 5 + 2 + 2 + 3 + 1}
    assert statistics.processes == 1
