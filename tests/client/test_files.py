"""Reading and writing the partition's files."""

from __future__ import annotations

import errno

import pytest

from lpar.client import FileForbidden, FileMissing, KernelFailure, Lpar
from protocol.codes import KernelReason
from tests.client.kernel import LIMIT, TOTAL, WRITE_ONLY, failure
from tests.client.world import World
from tests.fidelity.rows import fidelity


@fidelity(
    "4 files",
    "nr_total_credits and nr_used_credits of both types are decimal numbers with a newline.",
    source="K:vas-sysfs.c",
)
def test_a_file_is_read_as_text(lpar: Lpar) -> None:
    assert lpar.read(TOTAL) == "40\n"
    assert lpar.read(LIMIT) == "1048576\n"


def test_a_missing_file_is_a_file_not_found_error(lpar: Lpar) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        lpar.read("/sys/nothing")
    assert isinstance(caught.value, FileMissing)
    assert (caught.value.errno, caught.value.reason) == (errno.ENOENT, KernelReason.NO_FILE)


@fidelity(
    "4 files",
    "update_total_credits cannot be read: EACCES, or EIO for root.",
    source="K:vas-sysfs.c",
    differs="Always EACCES: there is no root.",
)
def test_reading_a_write_only_file_is_a_permission_error(lpar: Lpar) -> None:
    with pytest.raises(PermissionError) as caught:
        lpar.read(WRITE_ONLY)
    assert isinstance(caught.value, FileForbidden)
    assert caught.value.reason is KernelReason.NOT_READABLE


def test_a_file_is_written_in_one_call(world: World, lpar: Lpar) -> None:
    lpar.write(WRITE_ONLY, "12\n")
    assert world.kernel.written == [(WRITE_ONLY, "12\n")]


def test_a_bad_number_is_einval_with_the_kernels_reason(world: World, lpar: Lpar) -> None:
    world.kernel.failures.append(("write_file", failure(KernelReason.BAD_NUMBER)))
    with pytest.raises(KernelFailure) as caught:
        lpar.write(WRITE_ONLY, "many")
    assert caught.value.errno == errno.EINVAL
    assert "not a number" in str(caught.value)
    assert caught.value.hcall is None


def test_paths_and_texts_that_no_call_carries_are_errnos(lpar: Lpar) -> None:
    with pytest.raises(OSError, match="path") as caught:
        lpar.read("/" * 4096)
    assert caught.value.errno == errno.ENAMETOOLONG
    with pytest.raises(OSError, match="one call") as caught:
        lpar.write(WRITE_ONLY, "1" * 65_537)
    assert caught.value.errno == errno.EFBIG
