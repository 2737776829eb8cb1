"""The partition's files: paths, modes, formats and errors (domain.md 4)."""

from __future__ import annotations

import errno

import pytest

from lpar.sysfs import kstrtou16
from protocol.codes import VAS_FEATURE_DEFAULT, CreditType, HcallCode, KernelReason
from protocol.device_messages import Done, FileText, OsFailure, ReadFile, WriteFile
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, HQueryNxCapabilities
from tests.lpar.hypervisor import FakeHypervisor
from tests.lpar.partition import GZIP, UPDATE_TOTAL_CREDITS, WINDOWS_FILE, Partition, booted

NX = "/sys/devices/vio/ibm,compression-v1/nx_gzip_caps"


def read_failure(partition: Partition, path: str, reason: KernelReason) -> OsFailure:
    return partition.fails(partition.reader, ReadFile(path=path), reason)


def test_counters_are_decimal_lines() -> None:
    partition = booted(40, qos=3)
    partition.open_windows(2)
    partition.open_windows(1, qos=True)
    assert partition.read(f"{GZIP}/default_capabilities/nr_total_credits") == "40\n"
    assert partition.read(f"{GZIP}/default_capabilities/nr_used_credits") == "2\n"
    assert partition.read(f"{GZIP}/qos_capabilities/nr_total_credits") == "3\n"
    assert partition.read(f"{GZIP}/qos_capabilities/nr_used_credits") == "1\n"


def test_the_accelerators_limits_are_decimal_lines() -> None:
    partition = booted(1)
    assert partition.read(f"{NX}/req_max_processed_len") == "1048576\n"
    assert partition.read(f"{NX}/min_compress_len") == "32768\n"
    assert partition.read(f"{NX}/min_decompress_len") == "32768\n"


def test_the_modes_are_the_kernels() -> None:
    modes = {path: file.mode for path, file in booted(1).core.kernel.files.files.items()}
    assert modes.pop(UPDATE_TOTAL_CREDITS) == 0o200
    assert set(modes.values()) == {0o444}
    assert len(modes) == 4 + 3 + 2 + 2


def test_the_write_only_file_cannot_be_read() -> None:
    failure = read_failure(booted(1), UPDATE_TOTAL_CREDITS, KernelReason.NOT_READABLE)
    assert failure.errno == errno.EACCES


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "", "/", GZIP, f"{GZIP}/default_capabilities/../qos_capabilities/nr_total_credits",
     f"{GZIP}/default_capabilities/nr_total_credits/", "sys/devices",
     f"{GZIP}/default_capabilities/update_total_credits",
     "/sys/devices/vas/vas0/gzip/default_capabilities/nr_total_credits", "/proc/powerpc/lparcfg\0"],
)  # fmt: skip
def test_other_paths_do_not_exist(path: str) -> None:
    partition = booted(1)
    assert read_failure(partition, path, KernelReason.NO_FILE).errno == errno.ENOENT
    failure = partition.fails(partition.reader, WriteFile(path=path, text="1"), KernelReason.NO_FILE)
    assert failure.errno == errno.ENOENT


@pytest.mark.parametrize("path", [f"{GZIP}/qos_capabilities/nr_total_credits", WINDOWS_FILE, "/proc/powerpc/lparcfg"])
def test_read_only_files_cannot_be_written(path: str) -> None:
    partition = booted(1)
    failure = partition.fails(partition.reader, WriteFile(path=path, text="1"), KernelReason.NOT_WRITABLE)
    assert failure.errno == errno.EACCES


def test_a_written_total_is_used_and_the_hypervisor_is_not_asked() -> None:
    partition = booted(1, qos=2)
    partition.open_windows(2, qos=True)
    partition.hypervisor.made.clear()
    partition.answer(partition.reader, partition.write(UPDATE_TOTAL_CREDITS, "9\n"), Done)
    assert not partition.hypervisor.made
    assert partition.credits(CreditType.QOS) == (9, 2)
    assert partition.credits() == (1, 0)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("7", 7), ("7\n", 7), ("+7", 7), ("+7\n", 7), ("+0", 0), ("+0x10", 16), ("+010", 8), ("0x1F", 31),
     ("0X1f\n", 31), ("0x0", 0), ("0x00ffff", 65535), ("017", 15), ("017\n", 15), ("00", 0), ("0\n", 0),
     ("65535", 65535), ("65535\n", 65535), ("0xffff", 65535), ("0XFFFF", 65535), ("0177777", 65535),
     ("000000000000000000000012", 10), ("5\0abc", 5), ("5\n\0abc", 5)],
)  # fmt: skip
def test_numbers_that_kstrtou16_takes(text: str, number: int) -> None:
    assert kstrtou16(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "\n", "+", "+\n", "-", "-1", "-0", "-0x1", "+-7", "-+7", "65536", "65536\n", "+65536", "0x10000", "0200000",
     "18446744073709551616", "18446744073709551623", " 7", "7 ", "7 \n", "\n7", "7\n\n", "7\r\n", "7\t", "0x", "0x\n",
     "0x+7", "0x 7", "x7", "08", "018", "0o17", "0b1", "seven", "7.0", "7e2", "7,0", "1_0", "++7", "7+", "7-", "7 7",
     "\u0667", "\uff17", "\u00b2", "9" * 60_000, "0xg", "0x1g", "\0", "\0007", "1F"],
)  # fmt: skip
def test_texts_that_kstrtou16_refuses(text: str) -> None:
    assert kstrtou16(text) is None


@pytest.mark.parametrize("text", ["-3", "65536", "", "1 ", "0x", "ten"])
def test_a_bad_number_is_einval_and_changes_nothing(text: str) -> None:
    partition = booted(1, qos=2)
    partition.open_windows(2, qos=True)
    before = partition.core.statistics()
    partition.hypervisor.made.clear()
    failure = partition.answer(partition.reader, partition.write(UPDATE_TOTAL_CREDITS, text), OsFailure)
    assert (failure.errno, failure.reason) == (errno.EINVAL, KernelReason.BAD_NUMBER)
    assert partition.credits(CreditType.QOS) == (2, 2)
    assert partition.credits() == (1, 0)
    assert partition.with_status("active") == [2, 1]
    assert not partition.hypervisor.made
    assert partition.core.statistics().pools == before.pools


def test_an_increase_that_fails_midway_keeps_the_new_total_as_linux_does() -> None:
    """The console tells the kernel first: the hypervisor may have no credits for it yet (domain.md 6)."""
    partition = booted(1, qos=3)
    partition.open_windows(3, qos=True)
    partition.answer(partition.reader, partition.write(UPDATE_TOTAL_CREDITS, "0"), Done)
    partition.hypervisor.fails_at(HAllocateVasWindow, 1, HcallCode.H_RESOURCE)
    failure = partition.answer(partition.reader, partition.write(UPDATE_TOTAL_CREDITS, "3"), OsFailure)
    assert (failure.errno, failure.reason, failure.hcall) == (
        errno.EINVAL, KernelReason.RECONFIGURE, HcallCode.H_RESOURCE,
    )  # fmt: skip
    assert partition.credits(CreditType.QOS) == (3, 3)
    assert partition.with_status("active") == [3]
    assert partition.with_status("no_cred_close") == [2, 1]


def test_a_decrease_that_fails_midway_keeps_the_new_total_as_linux_does() -> None:
    partition = booted(1, qos=3)
    partition.open_windows(3, qos=True)
    partition.hypervisor.fails_at(HDeallocateVasWindow, 1, HcallCode.H_STATE)
    failure = partition.answer(partition.reader, partition.write(UPDATE_TOTAL_CREDITS, "0"), OsFailure)
    assert failure.hcall is HcallCode.H_STATE
    assert partition.credits(CreditType.QOS) == (0, 3)
    assert partition.pool(CreditType.QOS).nr_close == 1


def test_the_entitlement_of_a_shared_partition_is_in_lparcfg() -> None:
    text = booted(16, shared=True).read("/proc/powerpc/lparcfg")
    assert "partition_entitled_capacity=80\n" in text
    assert "shared_processor_mode=1\n" in text
    assert "partition_entitled_capacity" not in booted(16).read("/proc/ppc64/lparcfg")


def test_the_window_listing_has_a_header_and_the_newest_window_first() -> None:
    partition = booted(2, qos=1)
    client = partition.process(pid=42)
    partition.open_window(client)
    partition.open_window(client, qos=True)
    partition.open_window(client)
    assert partition.read(WINDOWS_FILE) == (
        "order type window_id status pid descriptor\n"
        "3 default 3 active 42 5\n2 qos 2 active 42 4\n1 default 1 active 42 3\n"
    )


def test_a_listing_longer_than_a_message_says_how_much_is_missing() -> None:
    partition = booted(4_000)
    for _process in range(4):
        partition.open_windows(1_000)
    text = partition.read(WINDOWS_FILE)
    lines = text.splitlines()
    assert len(text) <= 65_536
    assert lines[-1] == f"# {4_000 - (len(lines) - 2)} more"


def test_a_missing_type_has_no_folder() -> None:
    partition = Partition(FakeHypervisor({CreditType.DEFAULT: 4, CreditType.QOS: 0}, features=VAS_FEATURE_DEFAULT))
    partition.settle()
    assert partition.credits() == (4, 0)
    read_failure(partition, f"{GZIP}/qos_capabilities/nr_total_credits", KernelReason.NO_FILE)
    read_failure(partition, UPDATE_TOTAL_CREDITS, KernelReason.NO_FILE)


def test_without_nx_capabilities_their_folder_is_missing() -> None:
    hypervisor = FakeHypervisor({CreditType.DEFAULT: 4, CreditType.QOS: 0})
    hypervisor.returns(HQueryNxCapabilities, HcallCode.H_SUCCESS, HcallCode.H_PARAMETER)
    partition = Partition(hypervisor)
    partition.settle()
    read_failure(partition, f"{NX}/min_compress_len", KernelReason.NO_FILE)
    assert partition.ask(partition.reader, ReadFile(path=WINDOWS_FILE), FileText)
