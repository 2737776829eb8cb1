"""The hcall link: an LPAR's kernel calls its hypervisor. Replies carry the hcall's return code."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from protocol.codes import CreditType, HcallCode, WindowStatus
from protocol.message import U8, U16, U32, U64, Flag, Notice, PasteAddress, Reply, Request, Text

Domain = Annotated[tuple[U64, ...], Field(min_length=6, max_length=6)]
"""Six associativity doublewords; all ones in the first lets the hypervisor choose the chip."""
WindowIds = Annotated[tuple[U32, ...], Field(max_length=0xFFFF)]


class HHomeNodeAssociativity(Request):
    """H_HOME_NODE_ASSOCIATIVITY(flags, hardware processor id)."""

    type: Literal["h_home_node_associativity"] = "h_home_node_associativity"
    flags: U64
    processor_id: U64


class Associativity(Reply):
    type: Literal["associativity"] = "associativity"
    code: HcallCode
    domain: Domain = (0, 0, 0, 0, 0, 0)


class HAllocateVasWindow(Request):
    """H_ALLOCATE_VAS_WINDOW(window type, credits, domain[0..5])."""

    type: Literal["h_allocate_vas_window"] = "h_allocate_vas_window"
    window_type: U8
    credits: U16
    domain: Domain


class WindowAllocated(Reply):
    """R4 window id, R5 paste address (absent: copy/paste is not offered), R6 and R7 interrupts."""

    type: Literal["window_allocated"] = "window_allocated"
    code: HcallCode
    window_id: U32 = 0
    paste_address: PasteAddress | None = None
    completion_interrupt: U32 = 0
    fault_interrupt: U32 = 0


class HModifyVasWindow(Request):
    """H_MODIFY_VAS_WINDOW(window id, LPAR process id, LPAR thread id, flags, AMR)."""

    type: Literal["h_modify_vas_window"] = "h_modify_vas_window"
    window_id: U32
    process_id: U64
    thread_id: U64 = 0
    flags: U64
    amr: U64 = 0


class HDeallocateVasWindow(Request):
    """H_DEALLOCATE_VAS_WINDOW(window id). Busy until every request on the window has completed."""

    type: Literal["h_deallocate_vas_window"] = "h_deallocate_vas_window"
    window_id: U32


class HcallStatus(Reply):
    """The return of an hcall that has no outputs."""

    type: Literal["hcall_status"] = "hcall_status"
    code: HcallCode


class HGetNxFault(Request):
    """H_GET_NX_FAULT(window id, real address of a 128-byte buffer): the oldest fault of the window."""

    type: Literal["h_get_nx_fault"] = "h_get_nx_fault"
    window_id: U32
    buffer_address: U64


class NxFault(Reply):
    """The faulted CRB with the stamp that NX and hypervisor put into it (nx_fault_stamp), field by field.

    `number` is the paste's. H_STATE: no fault is outstanding.
    """

    type: Literal["nx_fault"] = "nx_fault"
    code: HcallCode
    window_id: U32 = 0
    number: U64 = 0
    function: U8 = 0
    fault_address: U64 = 0
    csb_address: U64 = 0


class FaultInterrupt(Notice):
    """The fault interrupt of a window. Repeated, with the same number, until H_GET_NX_FAULT has fetched that fault."""

    type: Literal["fault_interrupt"] = "fault_interrupt"
    window_id: U32
    interrupt: U32
    number: U64


class HQueryVasWindow(Request):
    """H_QUERY_VAS_WINDOW(window id)."""

    type: Literal["h_query_vas_window"] = "h_query_vas_window"
    window_id: U32


class WindowState(Reply):
    """hv_vas_win_lpar, field by field."""

    type: Literal["window_state"] = "window_state"
    code: HcallCode
    version: U16 = 0
    window_type: U8 = 0
    status: WindowStatus = WindowStatus.ACTIVE
    credits: U16 = 0
    process_id: U64 = 0
    thread_id: U64 = 0
    paste_address: U64 = 0
    completion_interrupt: U32 = 0
    fault_interrupt: U32 = 0
    domain: Domain = (0, 0, 0, 0, 0, 0)
    bytes_processed: U64 = 0


class HQueryVasCapabilities(Request):
    """H_QUERY_VAS_CAPABILITIES(query type, real address of a 4 KiB buffer): 0 overall, 1 GZIP QoS, 2 GZIP default."""

    type: Literal["h_query_vas_capabilities"] = "h_query_vas_capabilities"
    query_type: U8
    buffer_address: U64 = 0


class VasOverallCapabilities(Reply):
    """hv_vas_all_caps: which window types this partition may use."""

    type: Literal["vas_overall_capabilities"] = "vas_overall_capabilities"
    code: HcallCode
    feature_types: U64 = 0


class VasFeatureCapabilities(Reply):
    """hv_vas_cop_feat_caps: `target_lpar_credits` is what the partition has now."""

    type: Literal["vas_feature_capabilities"] = "vas_feature_capabilities"
    code: HcallCode
    descriptor: U64 = 0
    window_type: CreditType = CreditType.DEFAULT
    user_mode: U8 = 0
    max_lpar_credits: U16 = 0
    max_window_credits: U16 = 0
    default_lpar_credits: U16 = 0
    target_lpar_credits: U16 = 0


class HQueryNxCapabilities(Request):
    """H_QUERY_NX_CAPABILITIES(query type, real address of a 4 KiB buffer): 0 overall, 1 GZIP."""

    type: Literal["h_query_nx_capabilities"] = "h_query_nx_capabilities"
    query_type: U8
    buffer_address: U64 = 0


class NxOverallCapabilities(Reply):
    """hv_nx_all_caps: which accelerators the partition may use."""

    type: Literal["nx_overall_capabilities"] = "nx_overall_capabilities"
    code: HcallCode
    feature_types: U64 = 0


class NxFeatureCapabilities(Reply):
    """hv_nx_cop_caps: request limits in bytes. The maximum is enforced, the minimums are advice."""

    type: Literal["nx_feature_capabilities"] = "nx_feature_capabilities"
    code: HcallCode
    req_max_processed_len: U64 = 0
    min_compress_len: U64 = 0
    min_decompress_len: U64 = 0


class HSetPpp(Request):
    """H_SET_PPP(entitled capacity in hundredths, uncapped weight): the partition changes its own entitlement.

    H_PARAMETER: a partition with dedicated processors, or less than a partition may have. H_RESOURCE: the system has
    not as much free. H_BUSY: a change of the console is under way.
    """

    type: Literal["h_set_ppp"] = "h_set_ppp"
    entitled_capacity: U64
    weight: U8 = 0


class ConfigurationKind(StrEnum):
    """What a change of a partition's configuration touches, hence which path the kernel takes."""

    CPU = "cpu"
    ENTITLEMENT = "entitlement"
    QOS = "qos"
    MIGRATION = "migration"


class ConfigurationChange(Notice):
    """Wake-up: apply generation `generation`, then report it with `Reconfigured`.

    CPU: the device-tree notifier; the kernel asks for its default credits. ENTITLEMENT: drmgr writes `amount`
    hundredths to lparcfg; the kernel asks likewise. QOS: drmgr writes `amount` to update_total_credits. MIGRATION:
    drmgr writes the stream id, which is `generation`, to /sys/kernel/mobility/migration.
    """

    type: Literal["configuration_change"] = "configuration_change"
    generation: U64
    kind: ConfigurationKind
    amount: U32


class QueryConfiguration(Request):
    """The generation in a beat is ahead of mine: what am I to apply?"""

    type: Literal["query_configuration"] = "query_configuration"
    generation: U64


class Configuration(Reply):
    """The change that is waiting for this partition, if one is, and its entitled capacity if it shares processors."""

    type: Literal["configuration"] = "configuration"
    generation: U64
    hundredths: U32 | None = None
    change: ConfigurationChange | None = None


class Reconfigured(Request):
    """The kernel applied `generation`. `closed` are the ids of the windows it closed, `reopened` the new ids."""

    type: Literal["reconfigured"] = "reconfigured"
    generation: U64
    accepted: Flag
    error: Text = ""
    closed: WindowIds = ()
    reopened: WindowIds = ()


class Noted(Reply):
    type: Literal["noted"] = "noted"
