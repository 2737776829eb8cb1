"""Whether a message answers a request of the fabric link. Pure.

The session matches answers to requests by number. What an answer says must fit as well: a credit is freed on the word
that a context is closed, so that the word must be about that context.
"""

from __future__ import annotations

from itertools import pairwise

from protocol.asked_again import named_otherwise
from protocol.fabric_messages import (
    CloseContext,
    ContextClosed,
    ContextProgrammed,
    Contexts,
    CreditReturned,
    FaultNoted,
    FaultRaised,
    ListContexts,
    ProgramContext,
    ReturnCredit,
    UnitNoted,
    UnitReady,
)
from protocol.message import Reply, Request
from protocol.session_messages import Refused

ANSWERS: dict[type[Request], type[Reply]] = {
    ProgramContext: ContextProgrammed,
    CloseContext: ContextClosed,
    ReturnCredit: CreditReturned,
    ListContexts: Contexts,
    UnitReady: UnitNoted,
    FaultRaised: FaultNoted,
}
"""The one answer that each request of the link has."""


def contradiction(request: Request, reply: Reply | Refused) -> str:
    """Why this is no answer to that request, in words; empty where it is one."""
    if isinstance(reply, Refused):
        return f"{reply.code}: expected {reply.expected}, came {reply.came}"
    expected = ANSWERS[type(request)]
    if not isinstance(reply, expected):
        return f"{reply.type} in place of {expected.model_fields['type'].default}"
    if isinstance(request, ListContexts) and isinstance(reply, Contexts):
        return _disorder(request.above, [context.window_id for context in reply.contexts])
    return named_otherwise(request, reply)


def _disorder(above: int, window_ids: list[int]) -> str:
    for before, window_id in pairwise([above, *window_ids]):
        if window_id <= before:
            return f"window {window_id} listed after {before}"
    return ""
