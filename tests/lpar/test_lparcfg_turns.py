"""Writes of lparcfg that meet a change of the console, each other, a shutdown or a dying writer (domain.md 5.6)."""

from __future__ import annotations

import errno

from protocol.codes import CreditType, HcallCode
from protocol.device_messages import Done, OsFailure
from protocol.hcall_messages import Configuration, ConfigurationKind, HSetPpp
from tests.lpar.hypervisor import Silence
from tests.lpar.test_lparcfg import LPARCFG, set_capacity, shared


def test_a_change_of_the_console_waits_for_a_write_under_way() -> None:
    """While it is not reported the hypervisor refuses writes, so the two cannot be told apart wrongly."""
    partition = shared()
    partition.hypervisor.returns(HSetPpp, Silence.HOLD)
    number = partition.write(LPARCFG, "partition_entitled_capacity=100\n")
    partition.hypervisor.announce(ConfigurationKind.ENTITLEMENT, 40)
    partition.settle()
    assert not partition.hypervisor.reports
    partition.hypervisor.release(HcallCode.H_BUSY)
    partition.settle()
    assert partition.answer(partition.reader, number, OsFailure).errno == errno.EBUSY
    assert partition.hypervisor.reports[-1].accepted
    assert "partition_entitled_capacity=40\n" in partition.read(LPARCFG)
    partition.ask(partition.reader, set_capacity("60\n"), Done)
    assert "partition_entitled_capacity=60\n" in partition.read(LPARCFG)


def test_writes_take_turns_so_that_the_last_one_set_is_the_one_shown() -> None:
    partition = shared()
    partition.hypervisor.returns(HSetPpp, Silence.HOLD)
    numbers = [partition.write(LPARCFG, f"partition_entitled_capacity={each}\n") for each in (100, 60)]
    assert partition.hypervisor.made == [HSetPpp(entitled_capacity=100)]
    partition.hypervisor.release()
    partition.settle()
    for number in numbers:
        partition.answer(partition.reader, number, Done)
    sent = [body for body in partition.hypervisor.made if isinstance(body, HSetPpp)]
    assert [body.entitled_capacity for body in sent] == [100, 60]
    assert "partition_entitled_capacity=60\n" in partition.read(LPARCFG)


def test_a_weight_is_set_with_the_capacity_of_that_moment() -> None:
    partition = shared()
    partition.hypervisor.returns(HSetPpp, Silence.HOLD)
    partition.write(LPARCFG, "partition_entitled_capacity=100\n")
    partition.write(LPARCFG, "capacity_weight=7\n")
    partition.hypervisor.release()
    partition.settle()
    assert HSetPpp(entitled_capacity=100, weight=7) in partition.hypervisor.made


def test_a_late_word_about_the_configuration_does_not_bring_the_old_capacity_back() -> None:
    partition = shared()
    follower = partition.core.kernel.configuration
    follower._ask(partition.now_us)
    follower.drmgr.lparcfg.written(100)
    follower.answered(Configuration(generation=0, hundredths=80), partition.now_us)
    assert "partition_entitled_capacity=100\n" in partition.read(LPARCFG)


def test_a_shutdown_waits_for_a_write_under_way() -> None:
    partition = shared()
    partition.hypervisor.returns(HSetPpp, Silence.HOLD)
    partition.write(LPARCFG, "partition_entitled_capacity=100\n")
    assert not partition.core.kernel.is_idle
    partition.hypervisor.release()
    partition.settle()
    assert partition.core.kernel.is_idle


def test_the_writer_may_die_before_the_hypervisor_answers() -> None:
    partition = shared()
    partition.hypervisor.returns(HSetPpp, Silence.HOLD)
    partition.hypervisor.targets[CreditType.DEFAULT] = 20
    partition.write(LPARCFG, "partition_entitled_capacity=100\n")
    partition.kill(partition.reader)
    partition.advance(20_000)
    partition.hypervisor.release()
    partition.advance(1_000)
    assert partition.credits() == (20, 0)
