"""The five links and the telemetry stream: who may say what in which direction, and how large it may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from protocol import console_messages as console
from protocol import device_messages as device
from protocol import fabric_messages as fabric
from protocol import hcall_messages as hcall
from protocol import mobility_messages as mobility
from protocol import paste_messages as paste
from protocol import session_messages as session
from protocol import telemetry_messages as telemetry
from protocol.message import Message, Reply

MEBIBYTE = 1 << 20
BODY_LIMIT_BYTES = MEBIBYTE
"""Frame 0 of a message; the largest are a `Reconfigured` with every window and a file's text."""
BULK_LIMIT_BYTES = 4 * MEBIBYTE
"""A frame of source or target bytes: the largest request limit plus history and room for expansion."""

EXCESS_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A closed tagged union: the messages of one link in one direction. `replies` bear the other one's numbers."""

    messages: tuple[type[Message], ...]
    adapter: TypeAdapter[Message] = field(init=False)
    names: frozenset[str] = field(init=False)
    replies: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        union: Any = reduce(or_, self.messages)
        if len(self.messages) > 1:
            union = Annotated[union, Field(discriminator="type")]
        object.__setattr__(self, "adapter", TypeAdapter(union))
        object.__setattr__(self, "names", frozenset(_name(message) for message in self.messages))
        replies = (message for message in self.messages if issubclass(message, Reply | session.Refused))
        object.__setattr__(self, "replies", frozenset(_name(message) for message in replies))


def _name(message: type[Message]) -> str:
    return str(message.model_fields["type"].default)


UNREAD_LIMIT = 1_000_000
"""Messages that wait for a dialling process that does not read: probes, one each beat, for eleven days of them.

Such a queue must not fill. libzmq then stops reading the connection, heartbeats included, so that the other side takes
the process for dead; and libzmq 4.3.5 aborts the process when it begins to read again. A probe takes less than 200
bytes; what else comes was asked for: 64 answers of a session, or one completion for each window that was pasted to.
"""


@dataclass(frozen=True, slots=True)
class Link:
    """One kind of connection. `up` is what the dialling side says, `down` what the listening side says.

    `high_water_mark` bounds each queue of a socket, in messages, but that of what a dialling process has not read:
    see UNREAD_LIMIT.
    """

    name: str
    up: Vocabulary
    down: Vocabulary
    high_water_mark: int

    @property
    def frame_limit_bytes(self) -> int:
        """The longest frame that a listening socket has room made for, also before it knows who sends it.

        A little more than a message may have, so that who exceeds that is told.
        """
        has_bulk = any(message in BULK_FRAMES for message in self.up.messages)
        return (BULK_LIMIT_BYTES if has_bulk else BODY_LIMIT_BYTES) + EXCESS_BYTES


SESSION_UP = (session.Hello, session.Beat, session.Bye)
SESSION_DOWN = (session.Welcome, session.BeatEcho, session.Probe, session.ByeDone, session.Refused)

HCALL = Link(
    "hcall",
    up=Vocabulary(
        (
            *SESSION_UP, hcall.HHomeNodeAssociativity, hcall.HAllocateVasWindow, hcall.HModifyVasWindow,
            hcall.HDeallocateVasWindow, hcall.HQueryVasWindow, hcall.HQueryVasCapabilities,
            hcall.HQueryNxCapabilities, hcall.HGetNxFault, hcall.HSetPpp, mobility.HVasiState, mobility.HVasiSignal,
            mobility.HJoin, hcall.QueryConfiguration, hcall.Reconfigured,
        )
    ),
    down=Vocabulary(
        (
            *SESSION_DOWN, hcall.Associativity, hcall.WindowAllocated, hcall.HcallStatus, hcall.WindowState,
            hcall.VasOverallCapabilities, hcall.VasFeatureCapabilities, hcall.NxOverallCapabilities,
            hcall.NxFeatureCapabilities, hcall.NxFault, hcall.FaultInterrupt, hcall.ConfigurationChange,
            hcall.Configuration, hcall.Noted, mobility.VasiStateTold,
        )
    ),
    high_water_mark=1000,
)  # fmt: skip

FABRIC = Link(
    "fabric",
    up=Vocabulary(
        (
            *SESSION_UP, session.Refused, fabric.UnitReady, fabric.ContextProgrammed, fabric.ContextClosed,
            fabric.ContextDraining, fabric.Contexts, fabric.FaultRaised, fabric.CreditReturned,
        ),
    ),
    down=Vocabulary(
        (
            *SESSION_DOWN, fabric.UnitNoted, fabric.ProgramContext, fabric.CloseContext, fabric.ListContexts,
            fabric.FaultNoted, fabric.ReturnCredit,
        )
    ),
    high_water_mark=1000,
)  # fmt: skip

DEVICE = Link(
    "device",
    up=Vocabulary(
        (
            *SESSION_UP, session.Refused, device.CsbUpdated, device.SignalTaken, device.OpenDevice,
            device.TxWinOpen, device.Mmap, device.Fault, device.Unmap, device.CloseDescriptor, device.ReadFile,
            device.WriteFile,
        )
    ),
    down=Vocabulary(
        (
            *SESSION_DOWN, device.DeviceOpened, device.WindowOpened, device.Mapped, device.FaultHandled,
            device.FileText, device.Done, device.OsFailure, device.UpdateCsb, device.RaiseSignal,
        )
    ),
    high_water_mark=256,
)  # fmt: skip

PASTE = Link(
    "paste",
    up=Vocabulary((paste.Paste,)),
    down=Vocabulary(
        (paste.PasteAccepted, paste.PasteRefused, paste.PasteFaulted, paste.PasteCompleted, session.Refused)
    ),
    high_water_mark=4,
)

CONSOLE = Link(
    "hmc",
    up=Vocabulary(
        (
            *SESSION_UP, console.ChangeProcessors, console.SetEntitlement, console.SetQosCredits,
            console.MigratePartition, console.HoldNotifications, console.QuerySystem, console.QueryWindows,
        )
    ),
    down=Vocabulary(
        (
            *SESSION_DOWN, console.ConfigurationApplied, console.ConsoleFailure, console.HoldChanged,
            console.SystemStatus, console.Windows,
        )
    ),
    high_water_mark=256,
)  # fmt: skip

TELEMETRY = Link(
    "telemetry",
    up=Vocabulary((session.Probe,)),
    down=Vocabulary(
        (
            telemetry.HcallMade,
            telemetry.CreditsChanged,
            telemetry.ConfigurationMoved,
            telemetry.PeerMoved,
            telemetry.FaultMoved,
        )
    ),
    high_water_mark=10_000,
)

LINKS = {link.name: link for link in (HCALL, FABRIC, DEVICE, PASTE, CONSOLE, TELEMETRY)}

BULK_FRAMES: dict[type[Message], int] = {paste.Paste: 1, paste.PasteCompleted: 1}
"""How many frames of bytes follow frame 0; none where a type is not listed."""
