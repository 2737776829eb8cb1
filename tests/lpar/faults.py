"""What the tests of translation faults share."""

from __future__ import annotations

from protocol.codes import CompletionCode
from protocol.hcall_messages import HGetNxFault
from protocol.paste_messages import PAGE_BYTES, SOURCE_ADDRESS, CsbBody
from tests.lpar.partition import Partition


def fetches(partition: Partition) -> list[HGetNxFault]:
    return [call for call in partition.hypervisor.made if isinstance(call, HGetNxFault)]


def block(page: int = 0) -> CsbBody:
    """What the kernel writes for an absent page of the source (domain.md 3)."""
    return CsbBody(
        code=CompletionCode.TRANSLATION_FAULT,
        extension=0x40,
        processed_bytes=0,
        target_bytes=0,
        crc32=0,
        adler32=1,
        fault_address=SOURCE_ADDRESS + page * PAGE_BYTES,
    )


def fault(partition: Partition, window_id: int, number: int, page: int = 0) -> None:
    partition.hypervisor.raise_fault(window_id, number, page=page)
    partition.settle()


def ends(partition: Partition) -> dict[str, int]:
    return {end.value: count for end, count in partition.core.statistics().nx_faults.items()}
