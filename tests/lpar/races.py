"""What the tests of races share: a close that is not waited for, a page fault, and where among the hcalls some are."""

from __future__ import annotations

from protocol.codes import Instruction
from protocol.device_messages import CloseDescriptor, Fault, FaultHandled
from protocol.message import Request
from tests.lpar.client_process import Client, OpenedWindow
from tests.lpar.partition import Partition


def start_close(partition: Partition, window: OpenedWindow) -> int:
    return partition.call(window.client, CloseDescriptor(descriptor=window.descriptor))


def page_fault(
    partition: Partition, client: Client, mapping: int, instruction: Instruction = Instruction.PASTE
) -> FaultHandled:
    return partition.ask(client, Fault(mapping=mapping, instruction=instruction), FaultHandled)


def made(partition: Partition, kind: type[Request]) -> list[int]:
    """Places of the hcalls of a type among all that were made."""
    return [place for place, call in enumerate(partition.hypervisor.made) if isinstance(call, kind)]
