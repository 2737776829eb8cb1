"""Migrations that fail, and leave the partition where it is with its windows reopened (domain.md 5.7)."""

from __future__ import annotations

import errno

import pytest

from protocol.codes import HcallCode, VasiState
from protocol.hcall_messages import (
    ConfigurationKind,
    HDeallocateVasWindow,
)
from protocol.mobility_messages import HJoin, HVasiSignal
from tests.fidelity.rows import fidelity
from tests.lpar.mobility import (
    COMPLETED,
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

ABORTS = [state for state in VasiState if state not in (VasiState.ENABLED, SUSPENDING)]

# How it can fail.


@fidelity(
    "5 migration",
    "Any state of the stream but enabled and suspending ends the migration with EIO before the partition suspends.",
    source="K:mobility.c",
)
@pytest.mark.parametrize("state", ABORTS, ids=lambda state: state.name)
def test_a_stream_in_another_state_aborts_and_the_windows_come_back(state: VasiState) -> None:
    partition = with_windows()
    states(partition, VasiState.ENABLED, state)
    number = migrate(partition)
    partition.advance(100)
    refused = failure(partition, number)
    assert refused.errno == errno.EIO
    assert state.name in refused.detail
    assert not made(partition, HJoin)
    assert not made(partition, HVasiSignal)
    assert is_reopened(partition)


@fidelity(
    "5 migration",
    "A stream that the hypervisor does not know ends the write with EINVAL, other errors of H_VASI_STATE with EIO; "
    "VAS is resumed in all cases.",
    source="K:mobility.c",
)
@pytest.mark.parametrize(("code", "number"), [(HcallCode.H_PARAMETER, errno.EINVAL), (HcallCode.H_HARDWARE, errno.EIO)])
def test_an_error_of_the_state_hcall_ends_the_write_and_the_windows_come_back(code: HcallCode, number: int) -> None:
    partition = with_windows()
    states(partition, code)
    written = migrate(partition)
    refused = failure(partition, written)
    assert (refused.errno, refused.hcall) == (number, code)
    assert len(made(partition, HDeallocateVasWindow)) == 3
    assert is_reopened(partition)


@fidelity(
    "5 migration",
    "Where the hypervisor has no H_VASI_STATE the kernel goes on to suspend the partition.",
    source="K:mobility.c",
)
def test_without_the_state_hcall_the_partition_suspends_all_the_same() -> None:
    partition = with_windows()
    states(partition, HcallCode.H_FUNCTION, HcallCode.H_FUNCTION)
    number = migrate(partition)
    assert len(made(partition, HJoin)) == 1
    assert succeeded(partition, number)


@fidelity(
    "5 migration",
    "Suspending is tried 5 times, with sleeps of 1, 10, 100 and 1000 ms between, while the stream is suspending; then "
    "H_VASI_SIGNAL cancels the migration.",
    source="K:mobility.c",
)
@pytest.mark.parametrize(("code", "number"), [(HcallCode.H_STATE, errno.EAGAIN), (HcallCode.H_HARDWARE, errno.EIO)])
def test_five_failed_suspends_cancel_the_migration(code: HcallCode, number: int) -> None:
    partition = with_windows()
    partition.hypervisor.always[HJoin] = code
    states(partition, *[SUSPENDING] * 6)
    written = migrate(partition)
    partition.advance(1110)
    assert written not in partition.reader.answers
    partition.advance(1)
    assert moments_ms(partition, HJoin) == [0, 1, 11, 111, 1111]
    assert made(partition, HVasiSignal) == [HVasiSignal(stream_id=STREAM, signal=1)]
    refused = failure(partition, written)
    assert (refused.errno, refused.hcall) == (number, code)
    assert is_reopened(partition)


def test_a_suspend_that_succeeds_at_the_fifth_attempt_is_a_migration() -> None:
    partition = with_windows()
    partition.hypervisor.returns(HJoin, *[HcallCode.H_STATE] * 4)
    states(partition, *[SUSPENDING] * 5, COMPLETED)
    number = migrate(partition)
    partition.advance(1111)
    assert succeeded(partition, number)
    assert not made(partition, HVasiSignal)
    assert is_reopened(partition)


@fidelity(
    "5 migration",
    "A failed suspend is not tried again when the stream is no longer suspending: the migration is cancelled.",
    source="K:mobility.c",
)
@pytest.mark.parametrize("then", [VasiState.ABORTED, VasiState.ENABLED, HcallCode.H_PARAMETER, HcallCode.H_HARDWARE])
def test_a_failed_suspend_of_a_stream_that_was_aborted_is_not_repeated(then: VasiState | HcallCode) -> None:
    partition = with_windows()
    partition.hypervisor.returns(HJoin, HcallCode.H_STATE)
    states(partition, SUSPENDING, then)
    number = migrate(partition)
    assert failure(partition, number).hcall is HcallCode.H_STATE
    assert len(made(partition, HJoin)) == 1
    assert len(made(partition, HVasiSignal)) == 1
    assert is_reopened(partition)


def test_a_failed_cancellation_is_logged_and_the_windows_come_back() -> None:
    partition = with_windows()
    partition.hypervisor.returns(HJoin, HcallCode.H_STATE)
    partition.hypervisor.returns(HVasiSignal, HcallCode.H_PARAMETER)
    states(partition, SUSPENDING, VasiState.ABORTED)
    number = migrate(partition)
    assert failure(partition, number).errno == errno.EAGAIN
    assert "H_PARAMETER" in str(partition.logged("migration_not_cancelled")[0]["why"])
    assert is_reopened(partition)


def test_a_failed_migration_is_reported_as_refused_with_its_reason() -> None:
    partition = with_windows()
    states(partition, VasiState.ABORTED)
    partition.hypervisor.announce(ConfigurationKind.MIGRATION, 0)
    partition.settle()
    report = partition.hypervisor.reports[-1]
    assert (report.accepted, report.closed) == (False, (3, 2, 1))
    assert "ABORTED" in report.error
    assert partition.order_of(report.reopened) == [3, 2, 1]


def test_a_window_that_cannot_be_closed_does_not_keep_the_kernel_from_asking_to_be_moved() -> None:
    partition = with_windows()
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_HARDWARE)
    states(partition, SUSPENDING, COMPLETED)
    migrate(partition)
    assert len(made(partition, HJoin)) == 1
