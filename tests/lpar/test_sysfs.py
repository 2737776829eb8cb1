"""The partition's files: paths, modes, formats and errors (domain.md 4)."""

from __future__ import annotations

import errno

import pytest

from lpar.sysfs import kstrtou16
from protocol.codes import VAS_FEATURE_DEFAULT, VAS_FEATURE_QOS, CreditType, HcallCode, KernelReason
from protocol.device_messages import Done, FileText, OsFailure, ReadFile, WriteFile
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, HQueryNxCapabilities
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import FakeHypervisor
from tests.lpar.partition import GZIP, UPDATE_TOTAL_CREDITS, WINDOWS_FILE, Partition, booted

NX = "/sys/devices/vio/ibm,compression-v1/nx_gzip_caps"


def read_failure(partition: Partition, path: str, reason: KernelReason) -> OsFailure:
    return partition.fails(partition.reader, ReadFile(path=path), reason)


@fidelity(
    "4 files",
    "nr_total_credits and nr_used_credits of both types are decimal numbers with a newline.",
    source="K:vas-sysfs.c",
)
@fidelity(
    "4 files",
    "The files stand under /sys/devices/virtual/misc/vas/vas0/gzip, not where the commit messages say.",
    source="ML:d2b521dffb",
)
def test_counters_are_decimal_lines() -> None:
    partition = booted(40, qos=3)
    partition.open_windows(2)
    partition.open_windows(1, qos=True)
    assert partition.read(f"{GZIP}/default_capabilities/nr_total_credits") == "40\n"
    assert partition.read(f"{GZIP}/default_capabilities/nr_used_credits") == "2\n"
    assert partition.read(f"{GZIP}/qos_capabilities/nr_total_credits") == "3\n"
    assert partition.read(f"{GZIP}/qos_capabilities/nr_used_credits") == "1\n"


@fidelity(
    "4 files",
    "nr_used_credits counts closed windows too, so that used above total says that windows wait for credit.",
    source="K:vas-sysfs.c",
)
def test_used_credits_count_closed_windows_and_may_exceed_the_total() -> None:
    partition = booted(3)
    partition.open_windows(3)
    partition.retarget(1)
    assert partition.read(f"{GZIP}/default_capabilities/nr_total_credits") == "1\n"
    assert partition.read(f"{GZIP}/default_capabilities/nr_used_credits") == "3\n"


@fidelity("4 files", "The accelerator's limits are three files of nx_gzip_caps, decimal with a newline.", source="T:nx")
def test_the_accelerators_limits_are_decimal_lines() -> None:
    partition = booted(1)
    assert partition.read(f"{NX}/req_max_processed_len") == "1048576\n"
    assert partition.read(f"{NX}/min_compress_len") == "32768\n"
    assert partition.read(f"{NX}/min_decompress_len") == "32768\n"


@fidelity("4 files", "Counters are 0444 and update_total_credits is 0200.", source="K:vas-sysfs.c")
def test_the_modes_are_the_kernels() -> None:
    modes = {path: file.mode for path, file in booted(1).core.kernel.files.files.items()}
    assert modes.pop(UPDATE_TOTAL_CREDITS) == 0o200
    assert modes.pop("/proc/powerpc/lparcfg") == modes.pop("/proc/ppc64/lparcfg") == 0o644
    modes = {path: mode for path, mode in modes.items() if not path.startswith("/sys/kernel/mobility/")}
    assert set(modes.values()) == {0o444}
    assert len(modes) == 4 + 3 + 3


@fidelity(
    "4 files",
    "update_total_credits cannot be read: EACCES, or EIO for root.",
    source="K:vas-sysfs.c",
    differs="Always EACCES: there is no root.",
)
def test_the_write_only_file_cannot_be_read() -> None:
    failure = read_failure(booted(1), UPDATE_TOTAL_CREDITS, KernelReason.NOT_READABLE)
    assert failure.errno == errno.EACCES


@fidelity(
    "4 files",
    "The files stand under /sys/devices/virtual/misc/vas/vas0/gzip, not where the commit messages say.",
    source="ML:d2b521dffb",
)
@fidelity(
    "4 files",
    "There is no file for available credits, and none of the names of the first patch versions.",
    source="K:vas-sysfs.c",
)
@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "", "/", GZIP, f"{GZIP}/default_capabilities/../qos_capabilities/nr_total_credits",
     f"{GZIP}/default_capabilities/nr_total_credits/", "sys/devices",
     f"{GZIP}/default_capabilities/update_total_credits", f"{GZIP}/default_capabilities/nr_avail_credits",
     f"{GZIP}/def_caps/target_creds", f"{GZIP}/def_caps/avail_creds", f"{GZIP}/qos_caps/used_creds",
     "/sys/devices/vas/vas0/gzip/default_capabilities/nr_total_credits", "/proc/powerpc/lparcfg\0"],
)  # fmt: skip
def test_other_paths_do_not_exist(path: str) -> None:
    partition = booted(1)
    assert read_failure(partition, path, KernelReason.NO_FILE).errno == errno.ENOENT
    failure = partition.fails(partition.reader, WriteFile(path=path, text="1"), KernelReason.NO_FILE)
    assert failure.errno == errno.ENOENT


@fidelity("4 files", "Counters are 0444 and update_total_credits is 0200.", source="K:vas-sysfs.c")
@pytest.mark.parametrize("path", [f"{GZIP}/qos_capabilities/nr_total_credits", WINDOWS_FILE])
def test_read_only_files_cannot_be_written(path: str) -> None:
    partition = booted(1)
    failure = partition.fails(partition.reader, WriteFile(path=path, text="1"), KernelReason.NOT_WRITABLE)
    assert failure.errno == errno.EACCES


@fidelity("4 files", "The number written is the new total, and the hypervisor is not asked.", source="ML:985e48088f")
@fidelity(
    "5 credits",
    "When QoS credits change Linux does not ask for the default credits that this changes.",
    source="K:vas-sysfs.c",
)
def test_a_written_total_is_used_and_the_hypervisor_is_not_asked() -> None:
    partition = booted(1, qos=2)
    partition.open_windows(2, qos=True)
    partition.hypervisor.made.clear()
    partition.answer(partition.reader, partition.write(UPDATE_TOTAL_CREDITS, "9\n"), Done)
    assert not partition.hypervisor.made
    assert partition.credits(CreditType.QOS) == (9, 2)
    assert partition.credits() == (1, 0)


@fidelity(
    "4 files",
    "update_total_credits takes what kstrtou16 with base 0 takes: decimal, 0x or 0 in front, at most one newline "
    "at the end.",
    source="K:vas-sysfs.c",
)
@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("7", 7), ("7\n", 7), ("+7", 7), ("+7\n", 7), ("+0", 0), ("+0x10", 16), ("+010", 8), ("0x1F", 31),
     ("0X1f\n", 31), ("0x0", 0), ("0x00ffff", 65535), ("017", 15), ("017\n", 15), ("00", 0), ("0\n", 0),
     ("65535", 65535), ("65535\n", 65535), ("0xffff", 65535), ("0XFFFF", 65535), ("0177777", 65535),
     ("000000000000000000000012", 10), ("5\0abc", 5), ("5\n\0abc", 5)],
)  # fmt: skip
def test_numbers_that_kstrtou16_takes(text: str, number: int) -> None:
    assert kstrtou16(text) == number


@fidelity(
    "4 files",
    "update_total_credits takes what kstrtou16 with base 0 takes: decimal, 0x or 0 in front, at most one newline "
    "at the end.",
    source="K:vas-sysfs.c",
)
@pytest.mark.parametrize(
    "text",
    ["", "\n", "+", "+\n", "-", "-1", "-0", "-0x1", "+-7", "-+7", "65536", "65536\n", "+65536", "0x10000", "0200000",
     "18446744073709551616", "18446744073709551623", " 7", "7 ", "7 \n", "\n7", "7\n\n", "7\r\n", "7\t", "0x", "0x\n",
     "0x+7", "0x 7", "x7", "08", "018", "0o17", "0b1", "seven", "7.0", "7e2", "7,0", "1_0", "++7", "7+", "7-", "7 7",
     "\u0667", "\uff17", "\u00b2", "9" * 60_000, "0xg", "0x1g", "\0", "\0007", "1F"],
)  # fmt: skip
def test_texts_that_kstrtou16_refuses(text: str) -> None:
    assert kstrtou16(text) is None


@fidelity(
    "4 files",
    "A number that cannot be parsed, and a reconfiguration that fails, are both EINVAL.",
    source="K:vas-sysfs.c",
)
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


@fidelity(
    "4 files",
    "A number that cannot be parsed, and a reconfiguration that fails, are both EINVAL.",
    source="K:vas-sysfs.c",
)
@fidelity(
    "5 triggers",
    "On a QoS increase the kernel may reopen windows before the hypervisor grants them, and those hcalls can fail.",
    source="ML:985e48088f",
    differs=(
        "Credits that are promised to a partition may be allocated at once; only a write without the console "
        "behind it fails."
    ),
)
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


@fidelity(
    "4 files",
    "A number that cannot be parsed, and a reconfiguration that fails, are both EINVAL.",
    source="K:vas-sysfs.c",
)
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


@fidelity(
    "4 files",
    "There is no list of windows in debugfs.",
    source="K:vas.c",
    differs="`/sys/kernel/debug/vasbus/windows` shows the kernel's list, newest first, for those who watch it.",
)
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


@fidelity("4 files", "A type's directory exists only if its feature bit is set.", source="K:vas-sysfs.c")
@pytest.mark.parametrize(
    ("features", "present"),
    [(VAS_FEATURE_DEFAULT, {"default_capabilities"}), (VAS_FEATURE_QOS, {"qos_capabilities"}), (0, set())],
)
def test_a_missing_type_has_no_folder(features: int, present: set[str]) -> None:
    partition = Partition(FakeHypervisor({CreditType.DEFAULT: 4, CreditType.QOS: 4}, features=features))
    partition.settle()
    folders = {path.split("/")[-2] for path in partition.core.kernel.files.files if path.startswith(GZIP)}
    assert folders == present
    for folder in {"default_capabilities", "qos_capabilities"} - present:
        read_failure(partition, f"{GZIP}/{folder}/nr_total_credits", KernelReason.NO_FILE)


@fidelity("4 files", "Where the query of the accelerator's limits fails their directory is missing.", source="T:nx")
def test_without_nx_capabilities_their_folder_is_missing() -> None:
    hypervisor = FakeHypervisor({CreditType.DEFAULT: 4, CreditType.QOS: 0})
    hypervisor.returns(HQueryNxCapabilities, HcallCode.H_SUCCESS, HcallCode.H_PARAMETER)
    partition = Partition(hypervisor)
    partition.settle()
    read_failure(partition, f"{NX}/min_compress_len", KernelReason.NO_FILE)
    assert partition.ask(partition.reader, ReadFile(path=WINDOWS_FILE), FileText)
