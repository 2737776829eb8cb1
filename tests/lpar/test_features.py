"""What the hypervisor and the operating system do not offer: no accelerators, no QoS credits while running."""

from __future__ import annotations

import errno

import pytest

from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import OpenDevice, WriteFile
from protocol.hcall_messages import (
    ConfigurationKind,
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    Reconfigured,
)
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import FakeHypervisor
from tests.lpar.partition import GZIP, UPDATE_TOTAL_CREDITS, Partition, booted, system_of


def without_accelerators(*, shared: bool = False) -> Partition:
    """A system with `accelerators = false`: the hypervisor has neither VAS nor NX."""
    hypervisor = FakeHypervisor({CreditType.DEFAULT: 0, CreditType.QOS: 0})
    hypervisor.always[HQueryVasCapabilities] = HcallCode.H_FUNCTION
    hypervisor.always[HQueryNxCapabilities] = HcallCode.H_FUNCTION
    partition = Partition(hypervisor, system_of(shared=shared))
    partition.settle()
    return partition


def test_a_partition_without_accelerators_boots_without_the_device_and_without_a_complaint() -> None:
    partition = without_accelerators()
    assert partition.core.kernel.booted
    failure = partition.fails(partition.process(), OpenDevice(), KernelReason.NO_DEVICE)
    assert failure.errno == errno.ENODEV
    assert {line.level for line in partition.log} == {"info"}
    (facts,) = partition.logged("booted")
    assert (facts["copy_paste"], facts["totals"], facts["epoch"]) == (False, {}, 1)


def test_a_partition_without_accelerators_has_no_sysfs_folders() -> None:
    partition = without_accelerators()
    paths = partition.core.kernel.files.files
    assert not [path for path in paths if path.startswith("/sys/devices")]
    assert [path for path in paths if path.startswith("/proc/")]


@pytest.mark.parametrize(
    ("shared", "kind"),
    [(False, ConfigurationKind.CPU), (True, ConfigurationKind.CPU), (True, ConfigurationKind.ENTITLEMENT)],
)
@fidelity(
    "5 triggers",
    "Where copy/paste is not enabled a change of processors or of entitled capacity succeeds, and nothing is asked.",
    source="ML:5d15f82b21",
)
def test_processor_changes_without_accelerators_succeed_and_ask_nothing(shared: bool, kind: ConfigurationKind) -> None:
    partition = without_accelerators(shared=shared)
    partition.hypervisor.made.clear()
    assert partition.change(kind, 3) == Reconfigured(generation=1, accepted=True)
    assert not partition.hypervisor.made
    if kind is ConfigurationKind.ENTITLEMENT:
        assert "partition_entitled_capacity=3\n" in partition.read("/proc/powerpc/lparcfg")


@fidelity("5 migration", "Where copy/paste is not offered a migration does nothing to VAS.", source="K:vas.c")
def test_migration_without_accelerators_does_nothing() -> None:
    partition = without_accelerators()
    partition.hypervisor.made.clear()
    partition.core.suspend(partition.now_us)
    partition.core.resume(partition.now_us)
    partition.settle()
    assert not partition.hypervisor.made
    assert partition.core.kernel.is_idle


def test_without_dynamic_qos_the_total_is_what_the_boot_read() -> None:
    partition = booted(4, qos=3, dynamic_qos=False)
    assert partition.credits(CreditType.QOS) == (3, 0)
    partition.open_windows(3, qos=True)
    assert partition.credits(CreditType.QOS) == (3, 3)


def test_without_dynamic_qos_there_is_no_file_to_write() -> None:
    partition = booted(4, qos=3, dynamic_qos=False)
    request = WriteFile(path=UPDATE_TOTAL_CREDITS, text="5")
    assert partition.fails(partition.reader, request, KernelReason.NO_FILE).errno == errno.ENOENT
    assert partition.read(f"{GZIP}/qos_capabilities/nr_total_credits") == "3\n"


def test_without_dynamic_qos_drmgr_cannot_open_the_file_and_nothing_changes() -> None:
    partition = booted(4, qos=3, dynamic_qos=False)
    partition.open_windows(3, qos=True)
    partition.hypervisor.made.clear()
    report = partition.change(ConfigurationKind.QOS, 1)
    assert not report.accepted
    assert report.error == f"Could not open {UPDATE_TOTAL_CREDITS} to write QoS credits"
    assert partition.credits(CreditType.QOS) == (3, 3)
    assert partition.with_status("active") == [3, 2, 1]
    assert not partition.hypervisor.made


def test_without_dynamic_qos_processor_changes_still_apply() -> None:
    partition = booted(4, qos=3, dynamic_qos=False)
    assert partition.retarget(2).accepted
    assert partition.credits() == (2, 0)
