"""The paste link: a client's copy/paste straight to an NX unit, no kernel in the path.

There is no session here: the window's token admits a paste, and `number` (rising per window) makes a repeat of the
last request harmless. A `Paste` has one more frame: the history followed by the source. A `PasteCompleted` has one
more: the target.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from protocol.codes import CompletionCode
from protocol.message import U8, U32, U64, Flag, Message, Part, Token

PAGE_BYTES = 65_536
"""A page of a request's operands."""
PageMap = Annotated[bytes, Field(strict=True, max_length=16)]
"""Which pages of an operand are present: page i is bit i % 8, least significant first, of byte i // 8; pages beyond the
map are present, so that an empty one says that all are.
"""
SOURCE_ADDRESS = 0x1_0000_0000
TARGET_ADDRESS = 0x2_0000_0000
CSB_ADDRESS = 0x3_0000_00F0
"""Where the operands of a sender lie that does not say: a fault's address is one of these plus whole pages."""

ResumeToken = Annotated[bytes, Field(strict=True, max_length=16)]
HISTORY_MAX_BYTES = 32_768


class Crb(Part):
    """The coprocessor request block, as far as software needs it: function code, sizes in bytes, CPB inputs.

    Addresses are the sender's own. History and source are one operand: its pages are counted from the first byte of
    the history. A request that needs an absent page stops there with a translation fault, whose address is
    that of the page. A `csb_address` of 0 is mapped nowhere.
    """

    function: U8
    target_bytes: U32
    history_bytes: Annotated[int, Field(strict=True, ge=0, le=HISTORY_MAX_BYTES)] = 0
    crc32: U32 = 0
    adler32: U32 = 1
    final: Flag = True
    resume: ResumeToken = b""
    source_address: U64 = SOURCE_ADDRESS
    target_address: U64 = TARGET_ADDRESS
    csb_address: U64 = CSB_ADDRESS
    source_pages: PageMap = b""
    target_pages: PageMap = b""
    csb_present: Flag = True


class CsbBody(Part):
    """The coprocessor status block and the CPB outputs.

    `processed_bytes` (SPBC) counts source bytes including history, `target_bytes` (TPBC) what was written.
    """

    code: CompletionCode
    extension: U8
    processed_bytes: U32
    target_bytes: U32
    crc32: U32
    adler32: U32
    fault_address: U64 = 0
    resume: ResumeToken = b""
    ended: Flag = False


class Paste(Message):
    type: Literal["paste"] = "paste"
    window_id: U32
    token: Token
    number: U64
    crb: Crb


class PasteAccepted(Message):
    """CR0 = 2: the request is in the receive FIFO."""

    type: Literal["paste_accepted"] = "paste_accepted"
    window_id: U32
    number: U64


class PasteRefused(Message):
    """CR0 = 0: no window credit or no FIFO slot. As on the hardware the sender is not told which."""

    type: Literal["paste_refused"] = "paste_refused"
    window_id: U32
    number: U64


class PasteFaulted(Message):
    """Nothing is behind this address: the sender takes a page fault to its kernel."""

    type: Literal["paste_faulted"] = "paste_faulted"
    window_id: U32
    number: U64


class PasteCompleted(Message):
    type: Literal["paste_completed"] = "paste_completed"
    window_id: U32
    number: U64
    csb: CsbBody
