"""Whose keys are for slots: what whoever claims one, its clients and an NX unit's health check may do. No sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.key_files import export_keys, init_keys, load_keys, make_pair
from protocol.key_source import KeySource
from protocol.keys import (
    LINK_RULES,
    KeyFile,
    Keyring,
    KeyRole,
    KeysError,
    Principal,
    acquaintances,
    check_claim,
    may_dial,
    principals_of,
)  # fmt: skip
from protocol.refusals import RefusalCode
from protocol.session_messages import Hello
from protocol.system import parse_system
from protocol.wire import Envelope, WireError
from tests.security.system import SYSTEM

WITH_SLOTS = SYSTEM + '\n[slots]\nname = "lpar"\ncount = 1\nmode = "shared"\nhundredths = 50\n'
EVERYBODY = principals_of(parse_system(WITH_SLOTS, "secured.toml"))
ENROL, TEMPLATE = Principal(KeyRole.ENROL), Principal(KeyRole.LPAR, "lpar")
CLIENT = Principal(KeyRole.CLIENT, "lpar")


def hello(role: str, name: str) -> Envelope:
    return Envelope(Hello(role=role, name=name, incarnation=bytes(16)))


def refusal_of(sender: str, role: str, name: str) -> WireError:
    with pytest.raises(WireError) as refused:
        check_claim(Principal.parse(sender), hello(role, name))
    assert refused.value.refusal.code is RefusalCode.KEY
    return refused.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The keys of everybody in a system with slots."""
    init_keys(tmp_path / "keys", EVERYBODY)
    return tmp_path / "keys"


def exported(folder: Path, *owners: str) -> KeyFile:
    """What the file says that is exported for these."""
    out = folder.parent / "out.keys"
    export_keys(folder, [Principal.parse(owner) for owner in owners], out, replace=True)
    return load_keys(out)


# Who has a key.


def test_a_system_with_slots_has_one_more_key_for_the_clients_of_all_of_them() -> None:
    without = principals_of(parse_system(SYSTEM, "secured.toml"))
    assert set(EVERYBODY) - set(without) == {CLIENT}
    assert set(without) <= set(EVERYBODY)


# The enrolment key.


@pytest.mark.parametrize("name", ["lpar", "another"])
def test_the_enrolment_key_may_say_hello_as_a_slot_under_any_name(name: str) -> None:
    check_claim(ENROL, hello("slot", name))


@pytest.mark.parametrize(("role", "name"), [("lpar", "lpar-01"), ("lpar", "lp1"), ("enrol", "lpar"), ("hmc", "x")])
def test_the_enrolment_key_may_say_hello_as_nothing_else(role: str, name: str) -> None:
    assert "the role slot" in refusal_of("enrol", role, name).refusal.expected


@pytest.mark.parametrize("sender", ["lpar:lp1", "client:lpar", "nx:nx0", "hmc", "observer", "chaos"])
def test_no_other_key_may_say_hello_as_a_slot(sender: str) -> None:
    refusal_of(sender, "slot", "lpar")
    refusal_of(sender, "slot", Principal.parse(sender).name or "lpar")


def test_a_slot_serves_with_the_enrolment_key(folder: Path) -> None:
    keys = exported(folder, "enrol")
    ring = keys.slot_keyring("lpar")
    assert (ring.owner, ring.pair) == (TEMPLATE, keys.own[ENROL])
    assert ring.server_keys("hcall", "") == load_keys(folder).public[Principal(KeyRole.HYPERVISOR)]


def test_without_the_enrolment_key_no_slot_is_served(folder: Path) -> None:
    with pytest.raises(KeysError, match="expected a secret key of enrol, there are those of: lpar:lp1"):
        exported(folder, "lpar:lp1").slot_keyring("lpar")


def test_a_slots_errors_name_the_key_that_it_has(folder: Path) -> None:
    ring = exported(folder, "enrol").slot_keyring("lpar")
    with pytest.raises(KeysError, match="the key of enrol is not for the fabric link"):
        ring.server_keys("fabric", "")


def test_a_changed_enrolment_key_is_told_to_whoever_serves_a_slot(folder: Path) -> None:
    keys = exported(folder, "enrol")
    other = KeyFile({ENROL: make_pair()}, keys.public)
    source = KeySource(keys.slot_keyring("lpar"), lambda: other)
    read = source.refresh()
    assert read is not None
    assert read.restart
    assert source.keyring.owner == TEMPLATE
    assert source.keyring.pair == keys.own[ENROL]


# The clients of slots.


def test_the_key_of_a_templates_clients_opens_the_device_link_of_any_replica(folder: Path) -> None:
    client = exported(folder, "client:lpar")
    replica = exported(folder, "enrol").slot_keyring("lpar")
    assert replica.authorise("device", client.own[CLIENT].public) == CLIENT
    ring = client.keyring(CLIENT)
    assert ring.server_keys("device", "") == (replica.pair.public,)
    assert ring.server_keys("paste", "nx1") == load_keys(folder).public[Principal(KeyRole.NX, "nx1")]


@pytest.mark.parametrize("stranger", ["client:lp1", "lpar:lp1", "nx:nx0", "hmc", "observer", "chaos", "enrol"])
def test_no_other_key_opens_the_device_link_of_a_replica(folder: Path, stranger: str) -> None:
    everything = load_keys(folder)
    replica = everything.slot_keyring("lpar")
    assert replica.authorise("device", everything.own[Principal.parse(stranger)].public) is None


def test_the_key_of_a_templates_clients_opens_no_named_partition(folder: Path) -> None:
    everything = load_keys(folder)
    for name in ("lp1", "lp2", "lp3"):
        ring = everything.keyring(Principal(KeyRole.LPAR, name))
        assert ring.authorise("device", everything.own[CLIENT].public) is None


def test_a_file_for_the_clients_of_slots_has_the_enrolments_public_key_and_no_secret_of_it(folder: Path) -> None:
    keys = exported(folder, "client:lpar")
    assert set(map(str, keys.public)) == {"enrol", "nx:nx0", "nx:nx1"}
    assert set(keys.own) == {CLIENT}


def test_a_file_for_slots_has_the_public_keys_of_their_clients_and_of_no_others(folder: Path) -> None:
    keys = exported(folder, "enrol")
    assert set(map(str, keys.public)) == {"hypervisor", "client:lpar"}


def test_a_partitions_own_key_is_expected_where_the_file_has_one(folder: Path) -> None:
    everything = load_keys(folder)
    client = everything.keyring(Principal(KeyRole.CLIENT, "lp1"))
    assert client.server_keys("device", "") == everything.public[Principal(KeyRole.LPAR, "lp1")]
    assert Principal(KeyRole.ENROL) not in set(acquaintances(client.owner, EVERYBODY))


def test_without_either_key_the_file_is_to_be_exported_again(folder: Path) -> None:
    keys = exported(folder, "client:lpar")
    public = {owner: known for owner, known in keys.public.items() if owner != ENROL}
    with pytest.raises(KeysError, match="no public key of lpar:lpar: export it again"):
        Keyring(CLIENT, keys.own[CLIENT], public).server_keys("device", "")


# An NX unit's health check.


def test_a_units_own_key_may_dial_its_own_paste_link_and_its_fabric_alone() -> None:
    nx0 = Principal(KeyRole.NX, "nx0")
    opened = {(link, str(other)) for link in LINK_RULES for other in EVERYBODY if may_dial(nx0, link, other)}
    assert opened == {("paste", "nx:nx0"), ("fabric", "hypervisor")}


def test_a_units_file_is_enough_for_its_own_paste_link(folder: Path) -> None:
    nx0 = Principal(KeyRole.NX, "nx0")
    ring = exported(folder, "nx:nx0").keyring(nx0)
    assert ring.server_keys("paste", "nx0") == (ring.pair.public,)
    assert ring.authorise("paste", ring.pair.public) == nx0
    with pytest.raises(KeysError, match="not for the paste link"):
        ring.server_keys("paste", "nx1")
