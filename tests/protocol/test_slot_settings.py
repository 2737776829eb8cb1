"""[slots] of the system file: what the slots are, and what is wrong is said with file, line and key."""

from __future__ import annotations

import pytest

from protocol.system import LparSettings, ProcessorMode, SettingsError, SystemSettings, local_addresses, parse_system

SYSTEM = """\
[system]
qos_credits = 10

[[chip]]
number = 0
unit = "nx0"
cores = 8

[[lpar]]
name = "lp1"
cores = 2
qos_credits = 4
"""
SLOTS = """
[slots]
name = "lpar"
count = 3
cores = 1
"""


def parsed(text: str) -> SystemSettings:
    return parse_system(SYSTEM + text, "sys.toml")


def complaint(text: str, system: str = SYSTEM) -> str:
    with pytest.raises(SettingsError) as caught:
        parse_system(system + text, "sys.toml")
    return str(caught.value)


def line_of(text: str, wanted: str) -> int:
    return text[: text.rindex(wanted)].count("\n") + 1


def test_a_system_without_slots_has_none() -> None:
    system = parsed("")
    assert (system.slots, system.slot_names, system.partitions) == (None, (), system.lpar)


def test_slots_are_numbered_partitions_with_what_the_template_says() -> None:
    system = parsed(SLOTS + "qos_credits = 2\ndynamic_qos = false\n")
    assert system.slot_names == ("lpar-01", "lpar-02", "lpar-03")
    assert [lpar.name for lpar in system.partitions] == ["lp1", *system.slot_names]
    third = LparSettings(name="lpar-03", cores=1, qos_credits=2, dynamic_qos=False)
    assert system.lpar_named("lpar-03") == third
    assert system.lpar_named("lpar") is None
    assert system.lpar_named("lpar-04") is None


def test_numbers_have_two_digits_and_three_from_100_on() -> None:
    text = SYSTEM.replace("cores = 8", "cores = 200") + SLOTS.replace("count = 3", "count = 101")
    names = parse_system(text, "sys.toml").slot_names
    assert (names[0], names[98], names[99], names[100]) == ("lpar-01", "lpar-99", "lpar-100", "lpar-101")


def test_slots_may_share_processors() -> None:
    system = parsed(SLOTS.replace("cores = 1", 'mode = "shared"\nhundredths = 50'))
    slot = system.lpar_named("lpar-02")
    assert slot is not None
    assert (slot.mode, slot.hundredths) == (ProcessorMode.SHARED, 50)


def test_slots_have_no_local_address() -> None:
    assert local_addresses(parsed(SLOTS), "/run/vas").device == {"lp1": "ipc:///run/vas/lp1.device"}


@pytest.mark.parametrize(
    ("right", "wrong", "key", "said"),
    [
        ("count = 3", "count = 0", "slots.count", "(came: 0)"),
        ("count = 3", "count = 1000", "slots.count", "(came: 1000)"),
        ("count = 3", 'count = "3"', "slots.count", "(came: '3')"),
        ('name = "lpar"', 'name = "l par"', "slots.name", "(came: 'l par')"),
        ('name = "lpar"', f'name = "{"x" * 60}"', "slots.name", f"(came: '{'x' * 59})"),
        ("cores = 1", "cores = 1\nhundredths = 5", "slots.hundredths", "cores = 1 or more and no hundredths"),
        ("cores = 1", "cores = 1\nweight = 7", "slots.weight", "there is no such key"),
        ("cores = 1", "cores = 1\nhome_chip = 3", "slots.home_chip", "is none of the chips [0]"),
        ('name = "lpar"', 'name = "lp1"', "slots.name", "the name lp1 is used twice"),
        ('name = "lpar"', 'name = "nx0"', "slots.name", "the name nx0 is used twice"),
        ('name = "lpar"', 'name = "hypervisor"', "slots.name", "the name hypervisor is used twice"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_key(right: str, wrong: str, key: str, said: str) -> None:
    text = SLOTS.replace(right, wrong)
    line = line_of(SYSTEM + text, wrong.splitlines()[-1])
    found = complaint(text)
    assert found.startswith(f"sys.toml:{line}: {key}: ")
    assert said in found


def test_a_count_is_needed() -> None:
    assert "slots.count: Field required" in complaint(SLOTS.replace("count = 3\n", ""))


def test_a_partition_may_not_have_a_slots_name() -> None:
    system = SYSTEM.replace('"lp1"', '"lpar-02"')
    found = complaint(SLOTS, system)
    line = line_of(system + SLOTS, 'name = "lpar"')
    assert found == f"sys.toml:{line}: slots.name: the name lpar-02 is used twice"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            SLOTS.replace("count = 3", "count = 8"),
            "8 slots of 100 hundredths of a processor each do not fit: the named partitions leave 600 hundredths, "
            "enough for 6 of them",
        ),
        (
            SLOTS.replace("count = 3", "count = 5") + "qos_credits = 2\n",
            "5 slots of 100 hundredths of a processor and 2 QoS credits each do not fit: the named partitions leave "
            "600 hundredths and 6 QoS credits, enough for 3 of them",
        ),
    ],
)
def test_a_system_too_small_says_how_many_slots_would_fit(text: str, reason: str) -> None:
    line = line_of(SYSTEM + text, "count = ")
    assert complaint(text) == f"sys.toml:{line}: slots.count: {reason}"


def test_as_many_slots_as_fit_are_taken() -> None:
    assert len(parsed(SLOTS.replace("count = 3", "count = 6")).slot_names) == 6
    assert len(parsed(SLOTS + "qos_credits = 2\n").slot_names) == 3
