"""lparcfg, written: H_SET_PPP, then the driver's default credits (domain.md 5.6)."""

from __future__ import annotations

import errno

import pytest

from lpar.client.errors import kernel_failure
from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import Done, OsFailure, WriteFile
from protocol.hcall_messages import (
    HDeallocateVasWindow,
    HQueryVasCapabilities,
    HSetPpp,
)
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import Partition, booted

LPARCFG = "/proc/powerpc/lparcfg"
ASK_DEFAULT = HQueryVasCapabilities(query_type=2)


def shared(total: int = 16) -> Partition:
    """A shared partition of 80 hundredths."""
    return booted(total, shared=True)


def set_capacity(text: str, path: str = LPARCFG) -> WriteFile:
    return WriteFile(path=path, text=f"partition_entitled_capacity={text}")


def refusal(partition: Partition, request: WriteFile) -> OsFailure:
    return partition.ask(partition.reader, request, OsFailure)


@pytest.mark.parametrize("path", [LPARCFG, "/proc/ppc64/lparcfg"])
@fidelity(
    "5 triggers",
    "A shared partition's credits follow its entitled capacity: with a new one the kernel asks for the default "
    "capabilities and fits its windows to them.",
    source="ML:be35124103",
)
@fidelity(
    "5 triggers",
    "`partition_entitled_capacity=<absolute value>` written to lparcfg is handed to the hypervisor by H_SET_PPP first.",
    source="K:lparcfg.c",
)
@fidelity("4 files", "lparcfg is also found at /proc/ppc64/lparcfg, where drmgr writes it.", source="ML:be35124103")
def test_a_written_capacity_is_set_and_the_credits_are_asked_for(path: str) -> None:
    partition = shared()
    partition.hypervisor.targets[CreditType.DEFAULT] = 20
    partition.ask(partition.reader, set_capacity("100\n", path), Done)
    assert partition.hypervisor.made == [HSetPpp(entitled_capacity=100), ASK_DEFAULT]
    assert partition.credits() == (20, 0)
    assert "partition_entitled_capacity=100\n" in partition.read(LPARCFG)
    assert not partition.hypervisor.reports


@fidelity(
    "5 triggers", "A write to lparcfg returns when the windows have been closed or reopened.", source="ML:be35124103"
)
def test_the_write_returns_when_the_windows_are_closed() -> None:
    partition = shared()
    partition.open_windows(16)
    partition.hypervisor.made.clear()
    partition.hypervisor.targets[CreditType.DEFAULT] = 14
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_SUCCESS, Silence.HOLD)
    number = partition.write(LPARCFG, "partition_entitled_capacity=70\n")
    assert number not in partition.reader.answers
    partition.hypervisor.release()
    partition.settle()
    partition.answer(partition.reader, number, Done)
    assert partition.with_status("no_cred_close") == [16, 15]
    assert partition.credits() == (14, 16)


@fidelity("5 triggers", "H_CONSTRAINED counts as success: the windows are fitted.", source="ML:be35124103")
def test_a_constrained_capacity_is_followed_by_the_driver_too() -> None:
    partition = shared()
    partition.hypervisor.returns(HSetPpp, HcallCode.H_CONSTRAINED)
    partition.hypervisor.targets[CreditType.DEFAULT] = 18
    partition.ask(partition.reader, set_capacity("100\n"), Done)
    assert partition.credits() == (18, 0)
    assert "partition_entitled_capacity=80\n" in partition.read(LPARCFG), "what was given instead is not known"


@pytest.mark.parametrize(
    ("code", "number", "reason"),
    [
        (HcallCode.H_BUSY, errno.EBUSY, KernelReason.SET_PPP_BUSY),
        (HcallCode.H_HARDWARE, errno.EIO, KernelReason.HCALL_FAILED),
        (HcallCode.H_PARAMETER, errno.EINVAL, KernelReason.SET_PPP_PARAMETER),
        (HcallCode.H_RESOURCE, 16, KernelReason.SET_PPP_RESOURCE),
        (HcallCode.H_FUNCTION, 2, KernelReason.HCALL_RAW),
        (HcallCode.H_P2, 55, KernelReason.HCALL_RAW),
        (HcallCode.H_LONG_BUSY_ORDER_10_MSEC, errno.EIO, KernelReason.HCALL_FAILED),
    ],
)
@fidelity(
    "5 triggers",
    "A failing H_SET_PPP ends the write with EBUSY for H_BUSY, EIO for H_HARDWARE, EINVAL for H_PARAMETER, and any "
    "other code raw, so that H_RESOURCE looks like errno 16; nothing is asked for then.",
    source="K:lparcfg.c",
    differs="A positive code would look like a count of bytes written; here it is EIO.",
)
def test_a_refused_capacity_is_an_errno_and_nothing_changes(code: HcallCode, number: int, reason: KernelReason) -> None:
    partition = shared()
    partition.hypervisor.returns(HSetPpp, code)
    failure = refusal(partition, set_capacity("100\n"))
    assert (failure.errno, failure.reason, failure.hcall) == (number, reason, code)
    word = "raw" if reason is KernelReason.HCALL_RAW else errno.errorcode[number]
    text = str(kernel_failure(failure))
    assert text.startswith(f"[Errno {number}] {word}: ")
    assert text.endswith(f" ({code.name}): H_SET_PPP: {code.name}")
    partition.advance(1_000)
    assert partition.hypervisor.made == [HSetPpp(entitled_capacity=100)], "it is not called again either"
    assert "partition_entitled_capacity=80\n" in partition.read(LPARCFG)


@fidelity(
    "5 triggers",
    "Windows that cannot be fitted to the new capacity make the write EIO; the capacity stands.",
    source="K:lparcfg.c",
)
def test_a_failing_reconfiguration_is_eio_and_the_capacity_stands() -> None:
    partition = shared()
    partition.open_windows(16)
    partition.hypervisor.targets[CreditType.DEFAULT] = 14
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_HARDWARE)
    failure = refusal(partition, set_capacity("70\n"))
    assert (failure.errno, failure.hcall) == (errno.EIO, HcallCode.H_HARDWARE)
    assert "partition_entitled_capacity=70\n" in partition.read(LPARCFG)
    assert partition.credits() == (14, 16)
    assert partition.logged("entitlement_set")[-1]["why"]


@fidelity("5 triggers", "A failing capability query makes the write EIO.", source="K:lparcfg.c")
def test_a_failing_capability_query_is_eio() -> None:
    partition = shared()
    partition.hypervisor.returns(HQueryVasCapabilities, HcallCode.H_PRIVILEGE)
    failure = refusal(partition, set_capacity("70\n"))
    assert (failure.errno, failure.hcall) == (errno.EIO, HcallCode.H_PRIVILEGE)
    assert partition.credits() == (16, 0)


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "100\n", "partition_entitled_capacity\n", "partition_entitled_capacity 100\n",
        "partition_entitled_capacity=\n", "partition_entitled_capacity=x1\n", "partition_entitled_capacity= 1\n",
        "partition_entitled_capacity=-1\n", "partition_entitled_capacity=+1\n", "partition_entitled_capacity=1",
        "Partition_entitled_capacity=1\n", "partition_entitled_capacity =1\n", "entitled_memory=1\n", "=1\n",
        "partition_entitled\0_capacity=100\n", "capacity_weight=\n", "partition_entitled_capacity=" + "0" * 37 + "\n",
    ],
)  # fmt: skip
@fidelity(
    "4 files",
    "A write to lparcfg without `=`, of an unknown name, of a value that begins with no digit, or longer than 64 "
    "bytes, is EINVAL.",
    source="K:lparcfg.c",
    differs="entitled_memory and entitled_memory_weight are unknown names too: partitions here have no memory pool.",
)
def test_what_is_no_parameter_and_number_is_einval_and_makes_no_hcall(text: str) -> None:
    partition = shared()
    failure = refusal(partition, WriteFile(path=LPARCFG, text=text))
    assert (failure.errno, failure.reason) == (errno.EINVAL, KernelReason.BAD_NUMBER)
    assert not partition.hypervisor.made


@pytest.mark.parametrize(
    ("text", "capacity"),
    [
        ("100\n", 100), ("0100\n", 100), ("90rest\n", 90), ("0x50\n", 0), ("77 88\n", 77), ("100", 10), ("40\0\n", 40),
        (f"{2**64 - 1}\n", 2**64 - 1), (f"{2**64 + 85}\n", 85), ("9" + "0" * 34 + "\n", 9 * 10**34 % 2**64),
    ],
)  # fmt: skip
@fidelity(
    "4 files",
    "The value written to lparcfg is read as decimal digits, what follows them is ignored, and the last byte of the "
    "write is lost: `echo` makes it a newline.",
    source="K:lparcfg.c",
)
def test_the_number_is_read_as_the_kernel_reads_it(text: str, capacity: int) -> None:
    partition = shared()
    partition.ask(partition.reader, set_capacity(text), Done)
    assert partition.hypervisor.made[0] == HSetPpp(entitled_capacity=capacity)


@pytest.mark.parametrize(("written", "weight"), [("200", 200), ("0", 0), ("257", 1)])
@fidelity(
    "5 triggers",
    "A new capacity_weight goes to H_SET_PPP and makes the driver look at nothing.",
    source="ML:be35124103",
    differs="The weight is kept nowhere, as no processor time is shared out here; lparcfg does not show it.",
)
def test_a_weight_alone_changes_no_credits(written: str, weight: int) -> None:
    partition = shared()
    partition.hypervisor.targets[CreditType.DEFAULT] = 20
    partition.ask(partition.reader, WriteFile(path=LPARCFG, text=f"capacity_weight={written}\n"), Done)
    assert partition.hypervisor.made == [HSetPpp(entitled_capacity=80, weight=weight)]
    assert partition.credits() == (16, 0)


@fidelity(
    "5 triggers",
    "Where copy/paste is not enabled a change of processors or of entitled capacity succeeds, and nothing is asked.",
    source="ML:5d15f82b21",
)
def test_without_copy_paste_a_new_capacity_succeeds_and_nothing_is_asked_for() -> None:
    partition = shared()
    partition.core.kernel.driver.copy_paste = False
    partition.ask(partition.reader, set_capacity("100\n"), Done)
    assert partition.hypervisor.made == [HSetPpp(entitled_capacity=100)]
    assert partition.credits() == (16, 0)


def test_a_dedicated_partition_is_left_to_the_hypervisor_to_refuse() -> None:
    partition = booted(40)
    partition.hypervisor.returns(HSetPpp, HcallCode.H_PARAMETER)
    assert refusal(partition, set_capacity("100\n")).errno == errno.EINVAL
    assert "partition_entitled_capacity" not in partition.read(LPARCFG)


@fidelity(
    "4 files",
    "lparcfg shows `name=value` lines and has mode 0644.",
    source="K:lparcfg.c",
    differs="Only the lines that matter for credits are there; a dedicated partition shows no entitled capacity.",
)
def test_the_file_shows_lines_of_name_and_value() -> None:
    assert shared().read(LPARCFG).splitlines() == [
        "lparcfg 1.9", "shared_processor_mode=1", "partition_entitled_capacity=80",
    ]  # fmt: skip
    partition = booted(16)
    assert partition.read(LPARCFG).splitlines() == ["lparcfg 1.9", "shared_processor_mode=0"]
    assert partition.core.kernel.files.files[LPARCFG].mode == 0o644


def test_the_files_of_a_partition_are_listed_with_their_modes() -> None:
    lines = shared().read("/sys/kernel/debug/vasbus/files").splitlines()
    assert lines[0] == "mode path"
    assert f"0644 {LPARCFG}" in lines
    assert "0200 /sys/devices/virtual/misc/vas/vas0/gzip/qos_capabilities/update_total_credits" in lines
    assert lines[1:] == sorted(lines[1:], key=lambda line: line.split()[1])
