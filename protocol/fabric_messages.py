"""The fabric link: the hypervisor programs window contexts on the NX units."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from protocol.codes import CreditType, Operand
from protocol.message import U8, U16, U32, U64, Flag, Name, Notice, Part, Reply, Request, Secret, Token


class ProgramContext(Request):
    """Create or replace the context of a window: from its answer on, pastes with this token are accepted."""

    type: Literal["program_context"] = "program_context"
    window_id: U32
    lpar: Name
    credit_type: CreditType
    window_credits: U16
    process_id: U64
    token: Token


class ContextProgrammed(Reply):
    """`accepted` is false when the unit's table is full, or where a context that has requests would be changed.

    `in_flight` requests of the window were queued, running or stopped by a fault: H_STATE for who modifies it.
    """

    type: Literal["context_programmed"] = "context_programmed"
    window_id: U32
    accepted: Flag
    in_flight: U16 = 0


class CloseContext(Request):
    """Close a context. From its arrival pastes fault; it is answered when the last request has completed."""

    type: Literal["close_context"] = "close_context"
    window_id: U32


class ContextClosed(Reply):
    """The context is gone and drained. Also the answer for a window that the unit does not know."""

    type: Literal["context_closed"] = "context_closed"
    window_id: U32
    bytes_processed: U64


class ContextDraining(Notice):
    """A close has to wait: `in_flight` requests of the window are queued or running."""

    type: Literal["context_draining"] = "context_draining"
    window_id: U32
    in_flight: U16


class FaultRaised(Request):
    """A request stopped at an absent page. Its window credit stays taken until `ReturnCredit` for this number.

    `number` is the paste's, which rises per window, so that a fault told twice is one fault. `token` is that of the
    context: a unit may hold one of a ledger that was put aside, and the next ledger's ids begin anew. The unit tells
    every fault that it still holds anew in each new session.
    """

    type: Literal["fault_raised"] = "fault_raised"
    window_id: U32
    token: Token
    number: U64
    function: U8
    operand: Operand
    fault_address: U64
    csb_address: U64


class FaultNoted(Reply):
    """The hypervisor has stored the fault."""

    type: Literal["fault_noted"] = "fault_noted"


class ReturnCredit(Request):
    """The kernel has fetched the fault `number` of the window: the request is over, its window credit is free."""

    type: Literal["return_credit"] = "return_credit"
    window_id: U32
    number: U64


class CreditReturned(Reply):
    """Also the answer where the unit holds no such fault (any more)."""

    type: Literal["credit_returned"] = "credit_returned"
    window_id: U32
    number: U64


CONTEXT_PAGE = 4096
"""Contexts in one answer."""


class ListContexts(Request):
    """Which contexts with an id above `above` do you hold? Asked after each HELLO, page by page, to reconcile."""

    type: Literal["list_contexts"] = "list_contexts"
    above: U32 = 0


class ContextSummary(Part):
    """One context in a `Contexts` answer."""

    window_id: U32
    token: Token
    process_id: U64


class Contexts(Reply):
    """Contexts in rising id; `more` says that there are further ones."""

    type: Literal["contexts"] = "contexts"
    contexts: Annotated[tuple[ContextSummary, ...], Field(max_length=CONTEXT_PAGE)]
    more: Flag = False


class UnitReady(Request):
    """The unit's limits: contexts it can hold, receive FIFO depth, bytes of one request.

    `guard` names something that only one live process can hold at a time: who comes with the guard of an earlier
    process is that process, or proves that it is gone. Empty: no proof, the fence of every earlier one is waited for.
    """

    type: Literal["unit_ready"] = "unit_ready"
    window_limit: U32
    fifo_depth: U16
    request_limit_bytes: U32
    guard: Secret = b""


class UnitNoted(Reply):
    type: Literal["unit_noted"] = "unit_noted"
