"""/sys/kernel/mobility/migration: a stream's id migrates the partition (domain.md 5.7)."""

from __future__ import annotations

import errno

import pytest

from protocol.codes import CreditType, HcallCode, KernelReason, VasiState
from protocol.device_messages import TxWinOpen
from protocol.hcall_messages import (
    ConfigurationKind,
    HAllocateVasWindow,
    HcallStatus,
    HDeallocateVasWindow,
    HModifyVasWindow,
    HQueryVasCapabilities,
)
from protocol.mobility_messages import HJoin, HVasiState, VasiStateTold
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import Silence
from tests.lpar.mobility import (
    COMPLETED,
    MIGRATION,
    STREAM,
    SUSPENDING,
    failure,
    is_reopened,
    made,
    migrate,
    moments_ms,
    states,
    succeeded,
    with_windows,
)  # fmt: skip
from tests.lpar.partition import UPDATE_TOTAL_CREDITS, booted

# The way of a migration.


@fidelity(
    "5 migration",
    "Writing a stream id suspends VAS first of all, waits for the stream to be suspending, suspends the partition, "
    "waits for the memory transfer and resumes VAS; then the write returns.",
    source="K:mobility.c",
)
def test_a_stream_id_closes_waits_suspends_and_reopens_in_this_order() -> None:
    partition = with_windows(2)
    states(partition, SUSPENDING, COMPLETED)
    number = migrate(partition)
    assert [type(call) for call in partition.hypervisor.made] == [
        HQueryVasCapabilities,
        HQueryVasCapabilities,
        HDeallocateVasWindow,
        HDeallocateVasWindow,
        HVasiState,
        HJoin,
        HVasiState,
        HQueryVasCapabilities,
        HQueryVasCapabilities,
        HAllocateVasWindow,
        HModifyVasWindow,
        HAllocateVasWindow,
        HModifyVasWindow,
    ]
    assert {call.stream_id for call in partition.hypervisor.made if isinstance(call, HVasiState | HJoin)} == {STREAM}
    assert succeeded(partition, number)
    assert is_reopened(partition, 2)


@fidelity("5 migration", "drmgr writes the stream id to /sys/kernel/mobility/migration.", source="K:mobility.c")
def test_a_migration_is_reported_with_the_windows_that_it_closed_and_reopened() -> None:
    partition = with_windows(3)
    states(partition, SUSPENDING, COMPLETED)
    partition.hypervisor.announce(ConfigurationKind.MIGRATION, 0)
    partition.settle()
    report = partition.hypervisor.reports[-1]
    assert (report.generation, report.accepted, report.closed) == (1, True, (3, 2, 1))
    assert partition.order_of(report.reopened) == [3, 2, 1]
    assert made(partition, HJoin) == [HJoin(stream_id=1)]


@fidelity(
    "5 migration",
    "While the stream is enabled the kernel asks for its state once a second.",
    source="K:mobility.c",
    differs="Ours asks every 100 ms, so that a migration without a hold takes no second.",
)
def test_while_the_stream_is_enabled_its_state_is_asked_again() -> None:
    partition = with_windows()
    states(partition, *[VasiState.ENABLED] * 3, SUSPENDING, COMPLETED)
    number = migrate(partition)
    for _ in range(3):
        assert partition.with_status("migrate_close") == [3, 2, 1]
        partition.advance(99)
    assert not made(partition, HJoin)
    partition.advance(3)
    assert moments_ms(partition, HVasiState) == [0, 100, 200, 300, 300]
    assert succeeded(partition, number)
    assert is_reopened(partition)


@fidelity("5 migration", "During a migration an open is EBUSY.", source="K:vas.c")
def test_an_open_during_the_hold_is_ebusy_and_one_after_it_succeeds() -> None:
    partition = with_windows()
    partition.hypervisor.targets[CreditType.DEFAULT] = 4
    partition.retarget(4)
    states(partition, VasiState.ENABLED, SUSPENDING, COMPLETED)
    migrate(partition)
    client = partition.process()
    descriptor = partition.device(client)
    refused = partition.fails(client, TxWinOpen(descriptor=descriptor, vas_id=0), KernelReason.MIGRATION)
    assert refused.errno == errno.EBUSY
    partition.advance(100)
    assert partition.open_window(client).window_id


# After the move.


@fidelity(
    "5 migration",
    "After the move VAS is resumed only when the memory transfer is complete; the kernel asks every 500 ms while it is "
    "resumed, and takes a stream that is gone for complete.",
    source="K:mobility.c",
)
@pytest.mark.parametrize("end", [COMPLETED, HcallCode.H_PARAMETER])
def test_windows_stay_closed_until_the_memory_is_moved(end: VasiState | HcallCode) -> None:
    partition = with_windows()
    states(partition, SUSPENDING, VasiState.RESUMED, VasiState.RESUMED, end)
    number = migrate(partition)
    partition.advance(999)
    assert partition.with_status("migrate_close") == [3, 2, 1]
    partition.advance(1)
    assert moments_ms(partition, HVasiState) == [0, 0, 500, 1000]
    assert succeeded(partition, number)
    assert not partition.logged("transfer_unknown")
    assert is_reopened(partition)


@pytest.mark.parametrize("end", [HcallCode.H_HARDWARE, VasiState.ABORTED])
def test_an_odd_answer_after_the_move_is_logged_and_the_partition_has_moved(end: VasiState | HcallCode) -> None:
    partition = with_windows()
    states(partition, SUSPENDING, end)
    number = migrate(partition)
    assert succeeded(partition, number)
    assert len(partition.logged("transfer_unknown")) == 1
    assert is_reopened(partition)


@fidelity("5 migration", "An error while VAS is resumed does not fail the write.", source="K:mobility.c")
def test_windows_that_do_not_come_back_do_not_make_a_migration_fail() -> None:
    partition = with_windows()
    states(partition, SUSPENDING, COMPLETED)
    partition.hypervisor.fails_at(HAllocateVasWindow, 1, HcallCode.H_RESOURCE)
    partition.hypervisor.announce(ConfigurationKind.MIGRATION, 0)
    partition.settle()
    report = partition.hypervisor.reports[-1]
    assert report.accepted
    assert partition.order_of(report.reopened) == [3]
    assert partition.with_status("migrate_close") == [2, 1]


@fidelity(
    "5 migration", "User space is not frozen while a stream is enabled: DLPAR may change credits in between.",
    source="K:vas.c",
)  # fmt: skip
def test_qos_credits_written_during_a_migration_are_there_when_the_windows_come_back() -> None:
    partition = booted(2, qos=2)
    partition.open_windows(2, qos=True)
    states(partition, VasiState.ENABLED, SUSPENDING, COMPLETED)
    number = migrate(partition)
    written = partition.write(UPDATE_TOTAL_CREDITS, "5")
    assert succeeded(partition, written)
    assert partition.credits(CreditType.QOS) == (5, 2)
    assert partition.with_status("migrate_close") == [2, 1]
    partition.hypervisor.targets[CreditType.QOS] = 5
    partition.advance(100)
    assert succeeded(partition, number)
    assert partition.credits(CreditType.QOS) == (5, 2)
    assert is_reopened(partition, 2)


def test_without_the_accelerator_a_partition_is_migrated_and_no_window_is_touched() -> None:
    partition = booted(2)
    partition.core.kernel.driver.copy_paste = False
    states(partition, SUSPENDING, COMPLETED)
    number = migrate(partition)
    assert [type(call) for call in partition.hypervisor.made] == [HVasiState, HJoin, HVasiState]
    assert succeeded(partition, number)


# The file.


@fidelity("5 migration", "The migration file has mode 0200; its interface has version 1.", source="K:mobility.c")
def test_the_migration_file_can_only_be_written() -> None:
    partition = booted(1)
    assert partition.core.kernel.files.files[MIGRATION].mode == 0o200
    assert partition.read("/sys/kernel/mobility/api_version") == "1\n"


@fidelity(
    "5 migration",
    "The stream id is parsed by kstrtou64 with base 0: what is no number is EINVAL, what is too large is ERANGE, and "
    "nothing is suspended.",
    source="K:mobility.c",
)
@pytest.mark.parametrize(
    ("text", "number"),
    [("", errno.EINVAL), ("x", errno.EINVAL), ("-1", errno.EINVAL), ("7 ", errno.EINVAL), ("0x", errno.EINVAL),
     ("08", errno.EINVAL), (f"{1 << 64}", errno.ERANGE), ("0x1" + 16 * "0", errno.ERANGE), ("9" * 5000, errno.ERANGE)],
)  # fmt: skip
def test_what_is_no_stream_id_is_refused_before_anything_is_done(text: str, number: int) -> None:
    partition = with_windows()
    assert failure(partition, migrate(partition, text)).errno == number
    assert not partition.hypervisor.made


@pytest.mark.parametrize(
    ("text", "stream"),
    [("7", 7), ("7\n", 7), ("0x1f", 31), ("017", 15), ("+7", 7), (f"{(1 << 64) - 1}", (1 << 64) - 1)],
)
def test_a_stream_id_may_be_written_in_any_base(text: str, stream: int) -> None:
    partition = booted(1)
    states(partition, SUSPENDING, COMPLETED)
    assert succeeded(partition, migrate(partition, text))
    assert made(partition, HJoin) == [HJoin(stream_id=stream)]


@fidelity(
    "5 migration",
    "Nothing keeps two writers of the migration file from interfering with each other.",
    source="K:mobility.c",
    differs="A write during a migration is EBUSY, because every process of a partition may write the file here.",
)
def test_a_second_stream_during_a_migration_is_ebusy_and_disturbs_nothing() -> None:
    partition = with_windows()
    states(partition, VasiState.ENABLED, SUSPENDING, COMPLETED, SUSPENDING, COMPLETED)
    number = migrate(partition)
    refused = failure(partition, migrate(partition, "8"))
    assert (refused.errno, refused.reason) == (errno.EBUSY, KernelReason.MIGRATION)
    assert partition.with_status("migrate_close") == [3, 2, 1]
    partition.advance(100)
    assert succeeded(partition, number)
    assert succeeded(partition, migrate(partition, "9"))


def test_a_partition_that_shuts_down_during_the_hold_does_not_wait_for_it() -> None:
    partition = with_windows()
    partition.hypervisor.always[HVasiState] = VasiStateTold(code=HcallCode.H_SUCCESS, state=VasiState.ENABLED)
    migrate(partition)
    partition.core.stop(partition.now_us)
    partition.settle()
    partition.advance(1)
    assert partition.core.bye_said


def test_an_answer_of_another_hcall_is_no_state() -> None:
    partition = with_windows()
    partition.hypervisor.returns(HVasiState, HcallStatus(code=HcallCode.H_SUCCESS))
    assert failure(partition, migrate(partition)).errno == errno.EIO
    assert is_reopened(partition)


def test_the_hypervisor_may_take_its_time_with_the_suspend() -> None:
    partition = with_windows()
    partition.hypervisor.returns(HJoin, Silence.HOLD)
    states(partition, SUSPENDING, COMPLETED)
    number = migrate(partition)
    partition.advance(5_000)
    assert partition.with_status("migrate_close") == [3, 2, 1]
    partition.hypervisor.release()
    partition.settle()
    assert succeeded(partition, number)
