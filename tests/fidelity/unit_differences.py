"""Differences of the NX unit, and of what the hypervisor tells of it, that no test shows."""

from __future__ import annotations

from tests.fidelity.difference import Difference

UNIT_DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "1 hcalls",
        "H_DEALLOCATE_VAS_WINDOW with invalid page table entries for the window is H_STATE.",
        source="ML:0bab8a44ac",
        differs="There are no page tables: a window that cannot be closed yet is busy.",
    ),
    Difference(
        "1 hcalls",
        "hvcall.h has more codes: H_NOT_FOUND, H_NO_MEM, H_AUTHORITY, H_P4, H_P5, H_UNSUPPORTED, H_IN_USE.",
        source="K:hvcall.h",
        differs="No hcall ends with them; a second session of one name is refused with IN_USE.",
    ),
    Difference(
        "2 capabilities",
        "The capability buffers are big-endian structures, each in a page of its own that the hypervisor writes.",
        source="K:vas.h",
        differs="Their fields come back in a message, by name; of the buffer only the address is looked at.",
    ),
    Difference(
        "2 capabilities",
        "The NX buffer begins with a descriptor, whose bytes are not public.",
        source="T:nx",
        differs="It has none.",
    ),
    Difference(
        "2 capabilities",
        "A user_mode of 0x10 means that there is an hcall for accelerator operations.",
        source="T:pvas.h",
        differs="There is none, and user_mode is always 1.",
    ),
    Difference(
        "2 requests",
        "A CRB is 128 bytes, aligned to 128, with the function in the lowest byte of its first word; a corrupted "
        "one is completion code 20.",
        source="UM p.49-51",
        differs="Its fields come in a message, by name; one that cannot be decoded is refused with MALFORMED.",
    ),
    Difference(
        "2 requests",
        "VAS stamps a CRB with its buffer number and window ids.",
        source="LNX:inc_nx/nxu.h",
        differs="The paste names its window, and the status block goes back the way it came.",
    ),
    Difference(
        "2 requests",
        "NX stamps a faulted CRB with the faulting address, flags, a fault status and the window.",
        source="K:icswx.h",
        differs="The reply of H_GET_NX_FAULT has the address, the window and the paste's number.",
    ),
    Difference(
        "2 requests",
        "H_GET_NX_FAULT hands over the whole CRB of the faulted request.",
        source="K:icswx.h",
        differs="The reply has its function and status block address; sizes and data stay with the sender.",
    ),
    Difference(
        "2 requests",
        "Source and target may be lists of up to 255 pieces (indirect DDEs), with completion codes 1, 14, 30, 31 and "
        "33 for bad ones.",
        source="UM p.45",
        differs="There is one frame of source, with the history before it, and one of target.",
    ),
    Difference(
        "2 requests",
        "The status block is 16 bytes in the sender's memory, whose V bit it polls and has to clear before it pastes.",
        source="UM p.54",
        differs="It comes as a message that arrives whole.",
    ),
    Difference(
        "2 requests",
        "With C and CM of the CRB set an interrupt follows the status block, before the window credit is returned; "
        "another CM is completion code 21.",
        source="UM p.50",
        differs="The message is the interrupt: clients wait for it. Status block and credit are one step of the unit.",
    ),
    Difference(
        "2 requests",
        "The CPB is 1680 bytes behind the status block, with its inputs and outputs at fixed places.",
        source="UM p.59-63",
        differs="Checksums, counts and history are fields of the messages; SFBT, SUBC, TEBC and RemByteCnt do not "
        "exist.",
    ),
    Difference(
        "2 requests",
        "Overlapping operands are completion code 2.",
        source="UM p.66-71",
        differs="Source and target are frames of messages and cannot overlap.",
    ),
    Difference(
        "2 requests",
        "Translation and protection have completion codes of their own (5, 6, 15, 16), besides the 250 that system "
        "software writes.",
        source="UM p.66-71",
        differs="An absent page always is a fault, thus 250; all pages may be read and written.",
    ),
    Difference(
        "2 requests",
        "Errors of memory and of the machine are completion codes 7, 10, 12 and 90.",
        source="UM p.66-71",
        differs="Memory here has none that a unit could see.",
    ),
    Difference(
        "2 requests",
        "Completion codes 9, 18, 19, 32, 34 and 36 to 39 belong to other engines and to the operation of the machine.",
        source="UM p.66-71",
        differs="The unit never gives them.",
    ),
    Difference(
        "2 requests",
        "System software also writes 252 (no interrupt server), 253 (UE), 254 (no functional hardware) and 255 (hung "
        "operation killed).",
        source="UM p.66-71",
        differs="A unit that dies with a request is a timeout for the client.",
    ),
    Difference(
        "2 accelerator",
        "How deep the normal receive FIFO is on PowerVM is not public: 8 was considered, 256 is the most.",
        source="UM p.28",
        differs="`fifo_depth`, 8 by default.",
    ),
    Difference(
        "2 accelerator",
        "SFBT tells where in a block a decompression was suspended.",
        source="UM p.59",
        differs="It does not exist: the resume token stands for that place.",
    ),
)
