"""The hcalls that only ask: capability buffers and associativity. Pure. Source: domain.md 2.1."""

from __future__ import annotations

from hypervisor.entitlement import MAX_WINDOW_CREDITS
from hypervisor.ledger import Ledger, Partition
from protocol.codes import (
    CREDIT_MAX,
    NX_FEATURE_GZIP,
    USER_MODE_COPY_PASTE,
    VAS_DESCRIPTORS,
    VAS_FEATURE_DEFAULT,
    VAS_FEATURE_QOS,
    CreditType,
    HcallCode,
    NxQuery,
    VasQuery,
)
from protocol.hcall_messages import (
    Associativity,
    HHomeNodeAssociativity,
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    NxFeatureCapabilities,
    NxOverallCapabilities,
    VasFeatureCapabilities,
    VasOverallCapabilities,
)
from protocol.message import Reply
from protocol.system import HUNDREDTHS_PER_CORE, SystemSettings

THREADS_PER_CORE = 8
CAPABILITY_BUFFER_ALIGNMENT = 4096
REAL_ADDRESS_BITS = 56
"""What a partition's real addresses fit into. A kernel's own addresses (0xC000_0000_0000_0000 and on) do not."""


def is_bad_buffer(address: int, alignment: int) -> bool:
    """Whether a buffer of an hcall is where no partition has memory, or not aligned as the hcall wants it."""
    return address % alignment != 0 or address >> REAL_ADDRESS_BITS != 0


def vas_capabilities(ledger: Ledger, partition: Partition, request: HQueryVasCapabilities) -> Reply:
    """H_QUERY_VAS_CAPABILITIES: which window types there are, or one type's credits.

    H_FUNCTION: no VAS. H_PARAMETER: no such query. H_PRIVILEGE: a bad buffer.
    """
    refusal = _refusal(ledger.system, request.query_type, VasQuery, request.buffer_address)
    if request.query_type == VasQuery.OVERALL:
        if refusal is not None:
            return VasOverallCapabilities(code=refusal)
        features = VAS_FEATURE_QOS | VAS_FEATURE_DEFAULT
        return VasOverallCapabilities(code=HcallCode.H_SUCCESS, feature_types=features)
    if refusal is not None:
        return VasFeatureCapabilities(code=refusal)
    credit_type = CreditType.QOS if request.query_type == VasQuery.GZIP_QOS else CreditType.DEFAULT
    is_default = credit_type is CreditType.DEFAULT
    system = ledger.system
    ceiling = system.cores_total * system.credits_per_core if is_default else system.qos_credits
    return VasFeatureCapabilities(
        code=HcallCode.H_SUCCESS,
        descriptor=int.from_bytes(VAS_DESCRIPTORS[credit_type], "big"),
        window_type=credit_type,
        user_mode=USER_MODE_COPY_PASTE,
        max_lpar_credits=min(ceiling, CREDIT_MAX),
        max_window_credits=MAX_WINDOW_CREDITS,
        default_lpar_credits=ledger.entitled(partition) if is_default else 0,
        target_lpar_credits=ledger.target(partition, credit_type),
    )


def nx_capabilities(system: SystemSettings, request: HQueryNxCapabilities) -> Reply:
    """H_QUERY_NX_CAPABILITIES: which accelerators there are, or the limits of gzip in bytes. Codes as above."""
    refusal = _refusal(system, request.query_type, NxQuery, request.buffer_address)
    if request.query_type == NxQuery.OVERALL:
        if refusal is not None:
            return NxOverallCapabilities(code=refusal)
        return NxOverallCapabilities(code=HcallCode.H_SUCCESS, feature_types=NX_FEATURE_GZIP)
    if refusal is not None:
        return NxFeatureCapabilities(code=refusal)
    return NxFeatureCapabilities(
        code=HcallCode.H_SUCCESS,
        req_max_processed_len=system.request_limit_bytes,
        min_compress_len=system.min_compress_bytes,
        min_decompress_len=system.min_decompress_bytes,
    )


def _refusal(
    system: SystemSettings, query_type: int, queries: type[VasQuery] | type[NxQuery], address: int
) -> HcallCode | None:
    """Why a capability buffer is not filled; None if it is."""
    if not system.accelerators:
        return HcallCode.H_FUNCTION
    if query_type not in {query.value for query in queries}:
        return HcallCode.H_PARAMETER
    return HcallCode.H_PRIVILEGE if is_bad_buffer(address, CAPABILITY_BUFFER_ALIGNMENT) else None


def associativity(partition: Partition, request: HHomeNodeAssociativity) -> Associativity:
    """H_HOME_NODE_ASSOCIATIVITY: the home chip, for every processor that the partition has."""
    processors = -(-partition.capacity_hundredths // HUNDREDTHS_PER_CORE) * THREADS_PER_CORE
    if request.processor_id >= processors:
        return Associativity(code=HcallCode.H_P2)
    domain = (partition.home_chip, 0, 0, 0, 0, request.processor_id)
    return Associativity(code=HcallCode.H_SUCCESS, domain=domain)
