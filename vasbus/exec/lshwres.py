"""lshwres: list processors and QoS credits of the system or its partitions. Source: domain.md 6, PC-QOS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from protocol.codes import CreditType
from protocol.console_messages import LparStatus, SystemStatus
from protocol.system import HUNDREDTHS_PER_CORE, ProcessorMode
from vasbus.exec.hmc_options import Flags, HmcError, managed_system, parse, partition, require_accelerators, run
from vasbus.exec.program import OnConsole

USAGE = """\
Usage: lshwres -r {accel | proc} -m <system> --level {sys | lpar} [--filter lpar_names=<partition>[,...]]
               [-F [<attribute>[,...]] [--header]]
"""
ABSENT = "null"
"""What -F prints for an attribute that this resource does not have."""

SEPARATORS = (":", ",", " ")
"""Between the attributes of -F, and then between their values."""

Record = Mapping[str, str]


def lshwres(place: OnConsole, words: Sequence[str]) -> int:
    """0, or 1 with the reason."""
    return run(place, USAGE, lambda: list_resources(place, words))


def list_resources(place: OnConsole, words: Sequence[str]) -> None:
    """Carry a command line out. Raises HmcError."""
    flags = parse("lshwres", with_fields(words), "r:m:F:", ("level=", "rsubtype=", "filter=", "header", "help"))
    if "help" in flags:
        place.out.write(USAGE)
        return
    resource = flags.choose("r", ("accel", "proc"), "the resource: accel or proc")
    level = flags.choose("level", ("sys", "lpar"), "sys or lpar")
    if "rsubtype" in flags:
        flags.choose("rsubtype", ("gzip",), "the accelerator type: gzip")
    status = managed_system(place, flags)
    if resource == "accel":
        require_accelerators(status)
    records = RESOURCES[resource, level]
    names, found = records(status, chosen(status, flags, level))
    place.out.write(shown(names, found, flags))


def with_fields(words: Sequence[str]) -> list[str]:
    """-F may stand alone: give it an empty value then, which getopt has no way to say."""
    plain: list[str] = []
    for position, word in enumerate(words):
        alone = word == "-F" and (position + 1 == len(words) or words[position + 1].startswith("-"))
        plain += ["-F", ""] if alone else [word]
    return plain


def chosen(status: SystemStatus, flags: Flags, level: str) -> list[LparStatus]:
    """The partitions of the filter, or all. Raises HmcError."""
    if "filter" not in flags:
        return list(status.lpars)
    attribute, equals, names = flags.get("filter").strip('"').partition("=")
    if level != "lpar" or attribute != "lpar_names" or not equals:
        text = f"--filter takes lpar_names=<partition>[,...] with --level lpar, came {flags.get('filter')!r}"
        raise HmcError(f"lshwres: {text}")
    wanted = [partition(status, name) for name in names.split(",")]
    return [lpar for lpar in status.lpars if lpar in wanted]


def shown(names: Sequence[str], records: Sequence[Record], flags: Flags) -> str:
    """The console's form: attribute=value, or with -F the values alone, separated as the attributes were."""
    if "header" in flags and "F" not in flags:
        raise HmcError("lshwres: --header goes with -F")
    if "F" not in flags:
        return "".join(",".join(f"{name}={value}" for name, value in record.items()) + "\n" for record in records)
    separator = next((each for each in SEPARATORS if each in flags.get("F")), ",")
    fields = flags.get("F").split(separator) if flags.get("F") else list(names)
    for field in fields:
        if field not in names:
            raise HmcError(f"lshwres: no attribute {field!r}; there are {', '.join(names)}")
    lines = [separator.join(fields)] if "header" in flags else []
    lines += [separator.join(record.get(field, ABSENT) for field in fields) for record in records]
    return "\n".join(lines) + "\n"


# The resources: the names of all attributes, and the records.

Resource = tuple[Sequence[str], list[Record]]


def accel_sys(status: SystemStatus, _lpars: Sequence[LparStatus]) -> Resource:
    """Assigned credits are not available; pending counts what is being assigned at the moment, too."""
    assigned = sum(pool_target(lpar, CreditType.QOS) for lpar in status.lpars)
    record = {
        "type": "gzip",
        "max_qos": str(status.qos_total),
        "curr_avail_qos": str(max(0, status.qos_total - assigned)),
        "pend_avail_qos": str(status.qos_free),
    }
    return list(record), [record]


def accel_lpar(_status: SystemStatus, lpars: Sequence[LparStatus]) -> Resource:
    records = [
        {"lpar_name": lpar.name, "type": "gzip", "curr_qos": str(pool_target(lpar, CreditType.QOS))} for lpar in lpars
    ]
    return ["lpar_name", "type", "curr_qos"], list(records)


def proc_sys(status: SystemStatus, _lpars: Sequence[LparStatus]) -> Resource:
    record = {
        "configurable_sys_proc_units": units(status.cores_total * HUNDREDTHS_PER_CORE),
        "curr_avail_sys_proc_units": units(status.hundredths_free),
    }
    return list(record), [record]


def proc_lpar(_status: SystemStatus, lpars: Sequence[LparStatus]) -> Resource:
    return ["lpar_name", "curr_proc_mode", "curr_proc_units", "curr_procs"], [processors(lpar) for lpar in lpars]


def processors(lpar: LparStatus) -> Record:
    """Cores of a dedicated partition, processing units of a shared one; there are no virtual processors here."""
    if lpar.mode == ProcessorMode.DEDICATED:
        return {"lpar_name": lpar.name, "curr_proc_mode": "ded", "curr_procs": str(lpar.cores)}
    return {"lpar_name": lpar.name, "curr_proc_mode": "shared", "curr_proc_units": units(lpar.hundredths)}


RESOURCES: dict[tuple[str, str], Callable[[SystemStatus, Sequence[LparStatus]], Resource]] = {
    ("accel", "sys"): accel_sys,
    ("accel", "lpar"): accel_lpar,
    ("proc", "sys"): proc_sys,
    ("proc", "lpar"): proc_lpar,
}


def pool_target(lpar: LparStatus, credit_type: CreditType) -> int:
    return next(pool.target for pool in lpar.pools if pool.credit_type is credit_type)


def units(hundredths: int) -> str:
    """Processing units with one decimal at least: `0.8`, `0.85`, `2.0`."""
    whole, rest = divmod(hundredths, HUNDREDTHS_PER_CORE)
    return f"{whole}.{rest:02}".removesuffix("0") if rest else f"{whole}.0"
