"""The state of a system for `status`, `credits` and `windows`: the hypervisor's view beside each kernel's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hmc.connection import Console
from lpar.client import Lpar
from protocol.codes import CreditType
from protocol.console_messages import LparStatus, PoolStatus, SlotsStatus, SystemStatus
from protocol.keys import KeysError
from protocol.message import LOCAL_NETWORK
from vasbus.target import client_keys

SYSFS_ROOT = "/sys/devices/virtual/misc/vas/vas0/gzip"
DIRECTORIES = {CreditType.DEFAULT: "default_capabilities", CreditType.QOS: "qos_capabilities"}
KERNEL_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class KernelCounters:
    """The four counters of a partition's sysfs tree. `used` counts closed windows too."""

    default_total: int
    default_used: int
    qos_total: int
    qos_used: int


@dataclass(frozen=True, slots=True)
class Survey:
    """`kernels` has None for a partition that does not answer; `hmc` is where the hypervisor was asked."""

    hmc: str
    network: str
    system: SystemStatus
    kernels: dict[str, KernelCounters | None]


def survey(console: Console, network: str = LOCAL_NETWORK) -> Survey:
    """Ask the hypervisor, then every running partition. Raises ConsoleUnreachable."""
    system = console.system()
    kernels = {lpar.name: read_counters(lpar, network) for lpar in system.lpars}
    return Survey(console.endpoint, network, system, kernels)


def read_counters(lpar: LparStatus, network: str = LOCAL_NETWORK) -> KernelCounters | None:
    """The counters that the partition's own kernel shows; None where it does not run or answer, or we have no key."""
    endpoint = lpar.endpoints.get(network)
    if endpoint is None or lpar.state == "not_activated":
        return None
    try:
        keys = client_keys(lpar.name)
        with Lpar(endpoint, network=network, timeout=KERNEL_WAIT_S, keys=keys) as partition:
            values = {
                (credit_type, file): int(partition.read(f"{SYSFS_ROOT}/{folder}/{file}"))
                for credit_type, folder in DIRECTORIES.items()
                for file in ("nr_total_credits", "nr_used_credits")
            }
    except (OSError, TimeoutError, KeysError):
        return None
    return KernelCounters(
        values[CreditType.DEFAULT, "nr_total_credits"],
        values[CreditType.DEFAULT, "nr_used_credits"],
        values[CreditType.QOS, "nr_total_credits"],
        values[CreditType.QOS, "nr_used_credits"],
    )


def shown_state(lpar: LparStatus, counters: KernelCounters | None, network: str = LOCAL_NETWORK) -> str:
    """The hypervisor's word, unless it says `running` and the partition's kernel did not answer: `unreachable`.

    A kernel that is on other networks alone was not asked.
    """
    is_asked = not lpar.endpoints or network in lpar.endpoints
    return lpar.state if counters is not None or lpar.state != "running" or not is_asked else "unreachable"


def not_asked(found: Survey) -> tuple[list[str], set[str]]:
    """The partitions that run and are on other networks alone, and which those are."""
    far = [lpar for lpar in found.system.lpars if lpar.endpoints and found.network not in lpar.endpoints]
    return [lpar.name for lpar in far], {network for lpar in far for network in lpar.endpoints}


def pool(lpar: LparStatus, credit_type: CreditType) -> PoolStatus:
    """The hypervisor's target and in-use count of one pool."""
    return next(pool for pool in lpar.pools if pool.credit_type is credit_type)


def slots_line(slots: SlotsStatus) -> str:
    """How many slots of the template are claimed; a claimed one is among the partitions."""
    return f"slots: {slots.template} {slots.claimed} of {slots.count} claimed"


def as_json(found: Survey, metrics: Mapping[str, str] | None = None) -> dict[str, object]:
    """The document of `vasbus status --json`. `metrics` has the URLs by process, where they are known."""
    system, metrics = found.system, metrics or {}
    return {
        "system": system.system,
        "hypervisor": {
            "pid": system.pid,
            "hmc": found.hmc,
            "recovering": system.recovering,
            "metrics": metrics.get("hypervisor"),
        },
        "cores_total": system.cores_total,
        "hundredths_free": system.hundredths_free,
        "qos_credits": {"total": system.qos_total, "free": system.qos_free},
        "slots": None if system.slots is None else system.slots.model_dump(),
        "lpars": {lpar.name: {**_lpar_json(lpar, found), "metrics": metrics.get(lpar.name)} for lpar in system.lpars},
        "nxunits": {
            unit.name: {
                "paste": unit.endpoints.get(found.network),
                "state": unit.state,
                "pid": unit.pid,
                "chip": unit.chip,
                "windows": unit.windows,
                "metrics": metrics.get(unit.name),
            }
            for unit in system.units
        },
    }


def _lpar_json(lpar: LparStatus, found: Survey) -> dict[str, object]:
    counters = found.kernels[lpar.name]
    default, qos = pool(lpar, CreditType.DEFAULT), pool(lpar, CreditType.QOS)
    return {
        "device": lpar.endpoints.get(found.network),
        "state": shown_state(lpar, counters, found.network),
        "pid": lpar.pid,
        "epoch": lpar.epoch,
        "mode": lpar.mode,
        "cores": lpar.cores,
        "hundredths": lpar.hundredths,
        "home_chip": lpar.home_chip,
        "default_total_credits": counters.default_total if counters else None,
        "default_used_credits": counters.default_used if counters else None,
        "qos_total_credits": counters.qos_total if counters else None,
        "qos_used_credits": counters.qos_used if counters else None,
        "default_target": default.target,
        "default_in_use": default.in_use,
        "default_excess": default.excess,
        "qos_target": qos.target,
        "qos_in_use": qos.in_use,
        "qos_excess": qos.excess,
    }
