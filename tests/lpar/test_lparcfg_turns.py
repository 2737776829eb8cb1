"""Writes of lparcfg that meet a change of the console, each other, a shutdown or a dying writer (domain.md 5.6)."""

from __future__ import annotations

import errno

from protocol.codes import CreditType, HcallCode
from protocol.device_messages import Done, OsFailure, WriteFile
from protocol.hcall_messages import Configuration, ConfigurationChange, ConfigurationKind, HSetPpp
from tests.lpar.hypervisor import FakeHypervisor, Silence
from tests.lpar.partition import Partition, system_of
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


def test_the_capacity_of_an_answer_counts_beside_a_change_of_something_else() -> None:
    """A partition that restarts while its QoS credits change must not go on with the system file's number."""
    partition = shared()
    follower = partition.core.kernel.configuration
    follower._ask(partition.now_us)
    change = ConfigurationChange(generation=1, kind=ConfigurationKind.QOS, amount=3)
    follower.answered(Configuration(generation=1, hundredths=60, change=change), partition.now_us)
    assert "partition_entitled_capacity=60\n" in partition.read(LPARCFG)
    partition.ask(partition.reader, WriteFile(path=LPARCFG, text="capacity_weight=7\n"), Done)
    assert HSetPpp(entitled_capacity=60, weight=7) in partition.hypervisor.made


def test_no_system_call_meets_an_entitlement_from_before_the_first_answer() -> None:
    hypervisor = FakeHypervisor({CreditType.DEFAULT: 12, CreditType.QOS: 0}, hundredths=60, silent=True)
    partition = Partition(hypervisor, system_of(shared=True))
    partition.advance(500)
    number = partition.write(LPARCFG, "capacity_weight=7\n")
    partition.advance(1_000)
    assert hypervisor.asked
    assert not any(isinstance(body, HSetPpp) for body in hypervisor.made)
    hypervisor.speak()
    partition.advance(5_000)
    partition.answer(partition.reader, number, Done)
    assert HSetPpp(entitled_capacity=60, weight=7) in hypervisor.made


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
