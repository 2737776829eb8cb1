"""The telemetry stream: the hypervisor publishes what happened, numbered, and may lose messages.

The envelope's `number` counts them: a gap shows what was lost, and a `SystemStatus` mends it.
"""

from __future__ import annotations

from typing import Literal

from protocol.codes import CreditType, HcallCode, Operand
from protocol.message import U16, U32, U64, Message, Name


class HcallMade(Message):
    """An hcall was answered. `arguments` names what was asked, in words."""

    type: Literal["hcall_made"] = "hcall_made"
    at_us: U64
    lpar: Name
    epoch: U64
    number: U64
    hcall: Name
    arguments: str
    code: HcallCode
    window_id: U32 = 0


class CreditsChanged(Message):
    type: Literal["credits_changed"] = "credits_changed"
    at_us: U64
    lpar: Name
    credit_type: CreditType
    target: U16
    in_use: U32


class FaultMoved(Message):
    """A translation fault of a window: `raised` by its NX unit, `fetched` by the kernel, `settled` when the window
    credit is back, or `dropped` with its context.
    """

    type: Literal["fault_moved"] = "fault_moved"
    at_us: U64
    lpar: Name
    window_id: U32
    number: U64
    operand: Operand
    fault_address: U64
    step: Name


class ConfigurationMoved(Message):
    """A configuration step: `queued`, `applied`, `held`, `notified`, `acknowledged`, `refused`, `expired` or `died`.

    Of a migration also `moved` or `aborted`.
    """

    type: Literal["configuration_moved"] = "configuration_moved"
    at_us: U64
    lpar: Name
    generation: U64
    kind: Name
    step: Name
    detail: str = ""


class PeerMoved(Message):
    """A session of an LPAR or NX unit: `opened`, `resumed`, `suspected`, `returned` or `closed`."""

    type: Literal["peer_moved"] = "peer_moved"
    at_us: U64
    role: Name
    name: Name
    epoch: U64
    step: Name
