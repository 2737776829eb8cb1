"""Whose a key is, what it opens, and what a key file says. No sockets."""

from __future__ import annotations

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from protocol.key_files import make_pair
from protocol.keys import (
    LINK_RULES,
    KeyRole,
    KeysError,
    Principal,
    acquaintances,
    check_claim,
    may_dial,
    own_line,
    parse_keys,
    principals_of,
    public_lines,
)  # fmt: skip
from protocol.link import LINKS
from protocol.refusals import RefusalCode
from protocol.session_messages import Bye, Hello
from protocol.system import parse_system
from protocol.wire import Envelope, WireError
from protocol.z85 import is_key
from protocol.zap import answer
from tests.security.system import SYSTEM

EVERYBODY = principals_of(parse_system(SYSTEM, "secured.toml"))
MAY_DIAL = {
    "hcall": {
        ("lpar:lp1", "hypervisor"),
        ("lpar:lp2", "hypervisor"),
        ("lpar:lp3", "hypervisor"),
        ("enrol", "hypervisor"),
    },
    "fabric": {("nx:nx0", "hypervisor"), ("nx:nx1", "hypervisor")},
    "hmc": {("hmc", "hypervisor"), ("observer", "hypervisor"), ("chaos", "hypervisor")},
    "telemetry": {("hmc", "hypervisor"), ("observer", "hypervisor")},
    "device": {("client:lp1", "lpar:lp1"), ("client:lp2", "lpar:lp2"), ("client:lp3", "lpar:lp3")},
    "paste": {(f"client:lp{lpar}", f"nx:nx{unit}") for lpar in (1, 2, 3) for unit in (0, 1)}
    | {("nx:nx0", "nx:nx0"), ("nx:nx1", "nx:nx1")},
}


@pytest.mark.parametrize("link", LINKS)
def test_who_may_dial_whom_is_exactly_this_table(link: str) -> None:
    allowed = {(str(one), str(other)) for one in EVERYBODY for other in EVERYBODY if may_dial(one, link, other)}
    assert allowed == MAY_DIAL[link]


def test_every_link_has_a_rule() -> None:
    assert LINK_RULES.keys() == LINKS.keys()


@pytest.mark.parametrize("principal", EVERYBODY, ids=str)
def test_a_principals_text_reads_back(principal: Principal) -> None:
    assert Principal.parse(str(principal)) == principal


@pytest.mark.parametrize(
    "text", ["", "nx", "nx:", "hypervisor:", "hmc:me", "root", "lpar:lp 1", "client:../x", "LPAR:lp1"]
)
def test_what_is_no_principal_is_told_which_there_are(text: str) -> None:
    with pytest.raises(KeysError, match="client:NAME"):
        Principal.parse(text)


@given(st.text())
def test_any_text_is_a_principal_or_refused(text: str) -> None:
    try:
        principal = Principal.parse(text)
    except KeysError:
        return
    assert str(principal) == text


@pytest.mark.parametrize(
    ("owner", "knows"),
    [
        ("client:lp1", {"lpar:lp1", "nx:nx0", "nx:nx1"}),
        ("lpar:lp1", {"hypervisor", "client:lp1"}),
        ("nx:nx0", {"hypervisor", "nx:nx0", "client:lp1", "client:lp2", "client:lp3"}),
        ("hmc", {"hypervisor"}),
        ("enrol", {"hypervisor"}),
        ("hypervisor", {str(one) for one in EVERYBODY} - {"hypervisor", "client:lp1", "client:lp2", "client:lp3"}),
    ],
)
def test_a_bundle_has_the_keys_of_those_one_talks_with_and_no_others(owner: str, knows: set[str]) -> None:
    assert {str(other) for other in acquaintances(Principal.parse(owner), EVERYBODY)} == knows


def hello(role: str, name: str) -> Envelope:
    return Envelope(Hello(role=role, name=name, incarnation=bytes(16)))


@pytest.mark.parametrize(
    ("sender", "role", "name"),
    [
        ("lpar:lp1", "lpar", "lp1"), ("nx:nx0", "nxunit", "nx0"), ("client:lp1", "client", "anything"),
        ("hmc", "hmc", "hmc-1"), ("observer", "observer", "top"), ("chaos", "chaos", "c"),
    ],
)  # fmt: skip
def test_a_hello_that_fits_its_key_is_let_through(sender: str, role: str, name: str) -> None:
    check_claim(Principal.parse(sender), hello(role, name))


@pytest.mark.parametrize(
    ("sender", "role", "name"),
    [("lpar:lp1", "lpar", "lp2"), ("lpar:lp1", "nxunit", "lp1"), ("client:lp1", "hmc", "x"), ("enrol", "lpar", "lp1")],
)  # fmt: skip
def test_a_hello_that_does_not_is_refused(sender: str, role: str, name: str) -> None:
    with pytest.raises(WireError) as refused:
        check_claim(Principal.parse(sender), hello(role, name))
    assert refused.value.refusal.code.definite


def test_only_hello_claims_anything() -> None:
    check_claim(Principal.parse("lpar:lp1"), Envelope(Bye()))


@pytest.mark.parametrize(("role", "name"), [("lpar", "lp1"), ("enrol", "new")])
def test_the_enrolment_key_is_told_that_it_claims_no_partition_by_its_name(role: str, name: str) -> None:
    with pytest.raises(WireError) as refused:
        check_claim(Principal.parse("enrol"), hello(role, name))
    refusal = refused.value.refusal
    assert refusal.code is RefusalCode.KEY
    assert "the enrolment key claims a free slot" in refusal.expected
    assert "(lpar:NAME)" in refusal.expected
    assert name in refusal.came


# Key files.


def test_a_key_file_reads_back() -> None:
    owner, other = Principal.parse("client:lp1"), Principal.parse("lpar:lp1")
    pair, public = make_pair(), {other: (make_pair().public, make_pair().public)}
    keys = parse_keys("# comment\n\n" + own_line(owner, pair) + public_lines(public, [other, owner]), "file")
    assert keys.own == {owner: pair}
    assert keys.public == public


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("own hmc", "expected `own"), ("private hmc x", "expected `own"), ("public hmc short", "40 Z85"),
        ("public hmc " + "~" * 40, "40 Z85"), ("public hmc " + "#" * 40, "40 Z85"), ("public boss " + "1" * 40, "boss"),
        ("public hmc " + "1" * 40 + " x", "expected `own"),
        ("public hmc " + "1" * 40 + "\npublic chaos " + "1" * 40, "line 2.*that of hmc already"),
        ("own hmc " + "1" * 40 + " " + "2" * 40 + "\nown hmc " + "3" * 40 + " " + "2" * 40, "a second secret key"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_and_no_secret_is_shown(line: str, complaint: str) -> None:
    with pytest.raises(KeysError, match=complaint) as refused:
        parse_keys(line, "the file")
    assert "the file, line" in str(refused.value)
    assert "2" * 40 not in str(refused.value)


@given(st.binary(min_size=32, max_size=32))
def test_any_key_in_z85_is_one(key: bytes) -> None:
    from zmq.utils import z85

    assert is_key(z85.encode(key).decode())


def test_a_keyring_says_which_key_is_missing() -> None:
    owner = Principal(KeyRole.CLIENT, "lp1")
    keys = parse_keys(own_line(owner, make_pair()), "file")
    ring = keys.keyring(owner)
    with pytest.raises(KeysError, match="no public key of lpar:lp1: export it again"):
        ring.server_keys("device", "")
    with pytest.raises(KeysError, match="no public key of nx:nx7"):
        ring.server_keys("paste", "nx7")
    with pytest.raises(KeysError, match="expected a secret key of hmc, there are those of: client:lp1"):
        keys.keyring(Principal(KeyRole.HMC))
    with pytest.raises(KeysError, match="exactly one hmc or observer"):
        keys.only(KeyRole.HMC, KeyRole.OBSERVER)
    assert keys.only(KeyRole.CLIENT) == ring


def test_a_second_public_key_of_a_principal_is_taken_too_and_expected_in_turn() -> None:
    """That is how a key is changed without a moment in which neither works."""
    hypervisor, nx = Principal(KeyRole.HYPERVISOR), Principal(KeyRole.NX, "nx0")
    old, new = make_pair(), make_pair()
    lines = own_line(hypervisor, make_pair()) + public_lines({nx: (old.public, new.public)}, [nx])
    ring = parse_keys(lines, "file").keyring(hypervisor)
    assert ring.authorise("fabric", old.public) == ring.authorise("fabric", new.public) == nx
    assert ring.authorise("hcall", new.public) is None
    lines = own_line(nx, make_pair()) + public_lines({hypervisor: (new.public, old.public)}, [hypervisor])
    dialling = parse_keys(lines.replace(f"public hypervisor {old.public}\n", ""), "file").keyring(nx)
    assert dialling.server_keys("fabric", "") == (new.public,)
    assert parse_keys(lines, "file").keyring(nx).server_keys("fabric", "") == (new.public, old.public)


# What libzmq asks.


def zap_request(link: bytes, mechanism: bytes, key: bytes) -> list[bytes]:
    return [b"1.0", b"7", link, b"192.0.2.1", b"", mechanism, key]


def test_the_zap_answer_names_the_principal_or_refuses() -> None:
    from zmq.utils import z85

    hypervisor, nx = Principal(KeyRole.HYPERVISOR), Principal(KeyRole.NX, "nx0")
    pair = make_pair()
    lines = own_line(hypervisor, make_pair()) + public_lines({nx: (pair.public,)}, [nx])
    ring = parse_keys(lines, "file").keyring(hypervisor)
    key = z85.decode(pair.public.encode())
    reply, facts = answer(zap_request(b"fabric", b"CURVE", key), ring)
    assert (reply[:3], reply[4], facts) == ([b"1.0", b"7", b"200"], pair.public.encode(), None)
    for link, mechanism, credential, owner in (
        (b"hcall", b"CURVE", key, "nx:nx0"), (b"paste", b"CURVE", key, "nx:nx0"), (b"nolink", b"CURVE", key, "nx:nx0"),
        (b"fabric", b"CURVE", bytes(32), "unknown"), (b"fabric", b"CURVE", b"short", None),
        (b"fabric", b"NULL", key, None), (b"fabric", b"PLAIN", key, None), (b"\xff", b"CURVE", key, "nx:nx0"),
    ):  # fmt: skip
        reply, facts = answer(zap_request(link, mechanism, credential), ring)
        assert reply[2] == b"400"
        assert reply[4] == b""
        assert facts is not None
        assert facts.get("owner") == owner
    assert answer([], ring)[0][2] == b"400"


def test_curve_is_in_the_zeromq_library() -> None:
    assert zmq.has("curve")
