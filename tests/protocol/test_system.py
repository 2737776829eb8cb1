"""The system file: the sample is right, and whatever is wrong is said with file, line, key and what came."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.clock import SECOND_US
from protocol.system import (
    ProcessorMode,
    QosRule,
    ReopenPolicy,
    SettingsError,
    SystemSettings,
    local_addresses,
    parse_system,
)

SAMPLE = Path(__file__).parents[2] / "deploy" / "system.toml"
MINIMAL = """\
[[chip]]
number = 0
unit = "nx0"
cores = 4

[[lpar]]
name = "lp1"
cores = 2
"""


def complaint(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse_system(text, "sys.toml")
    return str(caught.value)


def line_of(text: str, wanted: str) -> int:
    """The line in which something stands, counted by hand, so to speak."""
    return text[: text.index(wanted)].count("\n") + 1


# What is right.


def test_the_sample_file_describes_the_system_of_the_documentation() -> None:
    system = parse_system(SAMPLE.read_text(), "system.toml")
    assert [(chip.unit, chip.fifo_depth) for chip in system.chip] == [("nx0", 8), ("nx1", 8)]
    assert [(lpar.name, lpar.mode) for lpar in system.lpar] == [
        ("lp1", ProcessorMode.DEDICATED), ("lp2", ProcessorMode.DEDICATED), ("lp3", ProcessorMode.SHARED),
    ]  # fmt: skip
    assert system.credits_per_core == 20


def test_the_values_shown_in_the_sample_are_the_defaults() -> None:
    system = parse_system(SAMPLE.read_text(), "system.toml")
    minimal = parse_system(MINIMAL, "sys.toml")
    shared = set(SystemSettings.model_fields) - {"name", "chip", "lpar"}
    assert {key: getattr(system, key) for key in shared} == {key: getattr(minimal, key) for key in shared}


def test_a_chip_and_a_partition_are_enough() -> None:
    system = parse_system(MINIMAL, "sys.toml")
    assert (system.qos_reduces_default, system.reopen) == (QosRule.LPAR, ReopenPolicy.KERNEL)
    assert (system.times.beat_ms, system.times.suspect_ms, system.times.lpar_lease_ms) == (1_000, 3_000, 10_000)
    assert system.cores_total == 4


def test_names_find_their_partition_and_their_chip() -> None:
    system = parse_system(MINIMAL, "sys.toml")
    lpar, chip = system.lpar_named("lp1"), system.chip_of_unit("nx0")
    assert lpar is not None
    assert chip is not None
    assert (lpar.cores, chip.number) == (2, 0)
    assert system.lpar_named("nx0") is None
    assert system.chip_of_unit("lp1") is None


def test_terms_are_the_files_milliseconds_in_microseconds() -> None:
    terms = parse_system(MINIMAL, "sys.toml").times.terms(5_000, by_beats=False, session_limit=7)
    assert (terms.by_beats, terms.lease_us, terms.session_limit) == (False, 5 * SECOND_US, 7)
    assert (terms.beat_us, terms.suspect_us, terms.drift_margin_us) == (SECOND_US, 3 * SECOND_US, 100_000)


def test_local_addresses_name_a_socket_for_each_process_in_one_folder() -> None:
    addresses = local_addresses(parse_system(SAMPLE.read_text(), "system.toml"), "/run/vas")
    every = [addresses.hcall, addresses.fabric, addresses.hmc, addresses.telemetry]
    every += [*addresses.device.values(), *addresses.paste.values()]
    assert len(set(every)) == 4 + 3 + 2
    assert all(endpoint.startswith("ipc:///run/vas/") for endpoint in every)


# What is wrong in one place: file, line, key, and what came.


@pytest.mark.parametrize(
    ("right", "wrong", "key", "came"),
    [
        ("cores = 4", 'cores = "4"', "chip.0.cores", "'4'"),
        ("cores = 4", "cores = 0", "chip.0.cores", "0"),
        ("cores = 4", "cores = 4.0", "chip.0.cores", "4.0"),
        ("cores = 4", "cores = true", "chip.0.cores", "True"),
        ("cores = 4", "cores = -1", "chip.0.cores", "-1"),
        ("cores = 4", "cores = 99999999999999999999", "chip.0.cores", "99999999999999999999"),
        ("cores = 4", "cores = nan", "chip.0.cores", "nan"),
        ("number = 0", "number = 256", "chip.0.number", "256"),
        ('unit = "nx0"', 'unit = "nx 0"', "chip.0.unit", "'nx 0'"),
        ('unit = "nx0"', 'unit = ""', "chip.0.unit", "''"),
        ('name = "lp1"', "name = 1", "lpar.0.name", "1"),
        ("cores = 2", "cores = 2\nmode = 'capped'", "lpar.0.mode", "'capped'"),
        ("cores = 2", "cores = 2\nqos_credits = 65536", "lpar.0.qos_credits", "65536"),
        ("cores = 2", "cores = 2\ncolour = 'red'", "lpar.0.colour", "'red'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line_its_key_and_what_came(
    right: str, wrong: str, key: str, came: str
) -> None:
    text = MINIMAL.replace(right, wrong)
    said = complaint(text)
    assert said.startswith(f"sys.toml:{line_of(text, wrong.splitlines()[-1])}: {key}: ")
    assert said.endswith(f"(came: {came})")


@pytest.mark.parametrize(
    ("table", "line", "key", "came"),
    [
        ("[system]", "credits_per_core = 0", "credits_per_core", "0"),
        ("[system]", "qos_credits = 70000", "qos_credits", "70000"),
        ("[system]", 'qos_reduces_default = "some"', "qos_reduces_default", "'some'"),
        ("[system]", 'reopen = "never"', "reopen", "'never'"),
        ("[system]", "request_limit_bytes = 1", "request_limit_bytes", "1"),
        ("[system]", "weight = 1", "weight", "1"),
        ("[times]", "beat_ms = 0", "times.beat_ms", "0"),
        ("[times]", "beat_ms = '1s'", "times.beat_ms", "'1s'"),
        ("[times]", "tick_ms = 1", "times.tick_ms", "1"),
        ("[limits]", "windows_per_unit = 65537", "limits.windows_per_unit", "65537"),
        ("[limits]", "memory_mb = 1", "limits.memory_mb", "1"),
    ],
)
def test_a_wrong_value_of_a_table_is_found_behind_comments_and_other_tables(
    table: str, line: str, key: str, came: str
) -> None:
    text = f"# {line}\n{MINIMAL}\n{table}  # a comment\n\n   {line}  # another\n"
    said = complaint(text)
    assert said.startswith(f"sys.toml:{line_of(text, '   ' + line)}: {key}: ")
    assert said.endswith(f"(came: {came})")


def test_the_second_of_two_partitions_is_told_from_the_first() -> None:
    text = MINIMAL + '\n[[lpar]]\nname = "lp2"\ncores = "one"\n'
    assert complaint(text).startswith("sys.toml:12: lpar.1.cores: ")


def test_an_unknown_table_is_refused_where_it_begins() -> None:
    assert complaint(MINIMAL + "[colours]\nred = 1\n").startswith("sys.toml:9: colours: ")


@pytest.mark.parametrize(
    ("text", "where", "key"),
    [
        (MINIMAL.replace('unit = "nx0"\n', ""), "sys.toml:1", "chip.0.unit"),
        (MINIMAL.replace('name = "lp1"\n', ""), "sys.toml:6", "lpar.0.name"),
        (MINIMAL[: MINIMAL.index("[[lpar]]")], "sys.toml", "lpar"),
        ("", "sys.toml", "chip"),
        ("# nothing\n", "sys.toml", "chip"),
    ],
)
def test_what_is_missing_is_named_with_the_line_of_its_table(text: str, where: str, key: str) -> None:
    assert complaint(text) == f"{where}: {key}: Field required"


@pytest.mark.parametrize(
    "text",
    [
        "[[chip]\n",
        "cores == 4\n",
        'name = "open\n',
        MINIMAL + MINIMAL.replace("[[lpar]]", "[lpar]"),
        "\x00",
        "a = " + "[" * 5_000,
    ],
)
def test_what_is_no_toml_is_refused_with_the_file_and_its_line(text: str) -> None:
    where = "sys.toml: " if "[[[" in text else f"sys.toml:{14 if 'lp1' in text else 1}: "
    assert complaint(text).startswith(where)


def test_a_misspelt_key_is_named_rather_than_the_one_it_was_to_be() -> None:
    assert complaint(MINIMAL.replace("unit =", "units =")).startswith("sys.toml:3: chip.0.units: ")


def test_a_broken_line_is_named() -> None:
    assert complaint(MINIMAL.replace("cores = 4", "cores 4")).startswith("sys.toml:4: Expected ")


@pytest.mark.parametrize(
    "text", ["system = 3\n" + MINIMAL, MINIMAL.replace("[[lpar]]", "[lpar]"), "chip = 1\nlpar = 2"]
)
def test_a_table_of_the_wrong_kind_is_refused(text: str) -> None:
    assert complaint(text).startswith("sys.toml:")


def test_a_key_that_stands_in_two_places_is_refused_instead_of_one_being_ignored() -> None:
    text = MINIMAL + "[system.times]\nbeat_ms = 10\n[times]\nbeat_ms = 20\n"
    assert complaint(text) == "sys.toml:9: times: stands in [system] and outside of it; expected one of the two"


# Systems that do not fit together.


def inconsistent(lpar: str = "", chip: str = "", system: str = "", times: str = "") -> str:
    return complaint(f"[system]\n{system}\n[times]\n{times}\n{MINIMAL}{lpar}\n{chip}")


def test_two_processes_of_one_name_are_refused() -> None:
    twice = inconsistent('[[lpar]]\nname = "lp1"\ncores = 1')
    assert twice == "sys.toml:14: lpar.1.name: the name lp1 is used twice"
    twice = inconsistent('[[lpar]]\nname = "nx0"\ncores = 1')
    assert twice == "sys.toml:14: lpar.1.name: the name nx0 is used twice"
    taken = inconsistent('[[lpar]]\nname = "hypervisor"\ncores = 1')
    assert taken == "sys.toml:14: lpar.1.name: the name hypervisor is used twice"


def test_two_chips_of_one_number_are_refused() -> None:
    said = inconsistent(chip='[[chip]]\nnumber = 0\nunit = "nx1"\ncores = 1')
    assert said == "sys.toml:15: chip.1.number: the chip number 0 is used twice"


def test_a_home_chip_that_does_not_exist_is_refused() -> None:
    said = inconsistent("home_chip = 3")
    assert said == "sys.toml:13: lpar.0.home_chip: lp1: home_chip 3 is none of the chips [0]"


def test_more_processors_than_there_are_is_refused_with_both_amounts() -> None:
    said = inconsistent('[[lpar]]\nname = "lp2"\nmode = "shared"\nhundredths = 201')
    amounts = "the partitions want 401 hundredths of a processor, the chips have 400"
    assert said == f"sys.toml:16: lpar.1.hundredths: {amounts}"


def test_more_qos_credits_than_the_system_has_is_refused_with_both_amounts() -> None:
    said = inconsistent("qos_credits = 11", system="qos_credits = 10")
    assert said == "sys.toml:13: lpar.0.qos_credits: the partitions have 11 QoS credits, the system 10"


@pytest.mark.parametrize(
    ("partition", "where"),
    [
        ('mode = "dedicated"\ncores = 0', "13: lpar.1.cores"),
        ('mode = "dedicated"\ncores = 1\nhundredths = 10', "14: lpar.1.hundredths"),
        ('mode = "shared"', "10: lpar.1.hundredths"),
        ('mode = "shared"\nhundredths = 4', "13: lpar.1.hundredths"),
        ('mode = "shared"\nhundredths = 50\ncores = 1', "14: lpar.1.cores"),
    ],
)
def test_a_partition_has_the_processors_of_its_mode_and_no_others(partition: str, where: str) -> None:
    said = complaint(f'{MINIMAL}\n[[lpar]]\nname = "lp2"\n{partition}\n')
    mode = "dedicated" if "dedicated" in partition else "shared"
    assert said.startswith(f"sys.toml:{where}: a {mode} partition has ")


@pytest.mark.parametrize(
    "times",
    ["beat_ms = 3000", "suspect_ms = 1000", "suspect_ms = 10001", "lpar_lease_ms = 30000", "fence_ms = 10000"],
)
def test_beats_suspicion_lease_and_fence_have_an_order(times: str) -> None:
    said = inconsistent(times=times)
    key = times.split()[0]
    assert said.startswith(
        f"sys.toml:4: times.{key}: expected beat_ms < suspect_ms <= lpar_lease_ms < fence_ms (came: "
    )
    assert times in said


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.integers(0, len(MINIMAL)))
def test_no_text_ends_in_anything_but_settings_or_a_settings_error(noise: str, place: int) -> None:
    try:
        parse_system(MINIMAL[:place] + noise + MINIMAL[place:], "sys.toml")
    except SettingsError as error:
        said = str(error)
    else:
        return
    assert said.startswith("sys.toml")
