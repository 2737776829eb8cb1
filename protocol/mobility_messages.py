"""The hcall link, migration: what a partition's kernel and its hypervisor tell each other of a stream.

A stream is one migration of one partition; its id is the generation of the change that the console asked for. Sources:
domain.md 5.7 (K:mobility.c), and H_VASI_* of K:hvcall.h.
"""

from __future__ import annotations

from typing import Literal

from protocol.codes import HcallCode, VasiState
from protocol.message import U8, U64, Reply, Request


class HVasiState(Request):
    """H_VASI_STATE(stream id): how far the migration is. The kernel asks until it may suspend."""

    type: Literal["h_vasi_state"] = "h_vasi_state"
    stream_id: U64


class VasiStateTold(Reply):
    """The state of the stream. H_PARAMETER: the partition has no such stream."""

    type: Literal["vasi_state_told"] = "vasi_state_told"
    code: HcallCode
    state: VasiState = VasiState.INVALID


class HVasiSignal(Request):
    """H_VASI_SIGNAL(stream id, signal): 1 cancels the migration."""

    type: Literal["h_vasi_signal"] = "h_vasi_signal"
    stream_id: U64
    signal: U8


class HJoin(Request):
    """H_JOIN by every processor and ibm,suspend-me by the last one, as one call: stand still and be moved.

    Answered H_SUCCESS at the destination; H_STATE while the partition has a window; H_PARAMETER without such a stream.
    """

    type: Literal["h_join"] = "h_join"
    stream_id: U64
