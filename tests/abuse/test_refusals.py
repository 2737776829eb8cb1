"""Bad input at every listening socket: each gets an error of a name that says what was expected, and moves nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lpar.client import DeviceFile, Lpar, PasteArea, Request
from protocol.codes import REASON_ERRNO, CompletionCode, FaultOutcome, KernelReason
from protocol.console_messages import ConsoleFailure
from protocol.device_messages import DeviceOpened, FaultHandled, OsFailure
from protocol.paste_messages import PasteFaulted
from protocol.refusals import RefusalCode
from protocol.session_messages import Hello, Refused
from protocol.wire import Envelope, encode
from tests.abuse.attacker import Attacker, frame
from tests.abuse.malformed import FAULTS, NOBODY, QUERIES, malformed
from tests.abuse.standing import Standing, standing
from tests.processes.cluster import SYSFS, Cluster, eventually

UPDATE = f"{SYSFS}/qos_capabilities/update_total_credits"
TOTAL = f"{SYSFS}/default_capabilities/nr_total_credits"
SESSION_LINKS = ("hcall", "fabric", "hmc", "device")
ROLES = {"hcall": "lpar", "fabric": "nxunit", "hmc": "hmc", "device": "client"}
WORDS_OF = {"hcall": "a partition", "fabric": "an NX unit", "hmc": "one of the roles hmc", "device": "the role client"}


@dataclass(frozen=True, slots=True)
class Honest:
    """A user whose window the others would like to have."""

    lpar: Lpar
    device: DeviceFile
    area: PasteArea
    window_id: int


@pytest.fixture(scope="module")
def honest(cluster: Cluster) -> Iterator[Honest]:
    with cluster.lpar("lp1") as lpar:
        device = lpar.open_device()
        window_id = device.tx_win_open()
        yield Honest(lpar, device, device.mmap(), window_id)


@pytest.fixture(scope="module", autouse=True)
def _nothing_moves(cluster: Cluster, honest: Honest) -> Iterator[Standing]:
    """Before and after this whole table the cluster stands the same, and the honest user's window works."""
    before = standing(cluster)
    yield before
    eventually(lambda: standing(cluster).gauges == before.gauges, "the attackers' sessions are gone")
    assert standing(cluster) == before
    request = Request(0x10, b"\x03\x00", 100)
    assert honest.area.paste(request).wait(10).code is CompletionCode.OK


def endpoint_of(cluster: Cluster, link: str) -> str:
    addresses = cluster.folder.addresses()
    many = {"device": addresses.device["lp1"], "paste": addresses.paste["nx0"]}
    return many[link] if link in many else str(getattr(addresses, link))


# What is no message of the link.


@pytest.mark.parametrize(
    ("link", "fault"),
    # A generation may be any 64-bit number.
    [(link, fault) for link in QUERIES for fault in FAULTS if (link, fault) != ("hcall", "huge field")],
)
def test_what_is_no_message_of_the_link_is_refused_by_name(cluster: Cluster, link: str, fault: str) -> None:
    frames, code, expected = malformed(link, fault)
    with Attacker(link, endpoint_of(cluster, link)) as attacker:
        answer = attacker.ask(*frames)
    assert isinstance(answer, Refused)
    assert answer.code is code
    assert expected in answer.expected
    assert answer.came
    assert answer.advice == code.advice


def test_a_paste_without_its_bytes_is_refused(cluster: Cluster) -> None:
    with Attacker("paste", endpoint_of(cluster, "paste")) as attacker:
        answer = attacker.ask(frame(*QUERIES["paste"]))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.expected, answer.came) == (RefusalCode.FRAMES, "2 frames", "1")


# Sessions of others.


def hello(link: str, **changes: Any) -> list[bytes]:
    whole = {"role": ROLES[link], "name": "lp1", "incarnation": os.urandom(16), **changes}
    return encode(Envelope(Hello(**whole)))


@pytest.mark.parametrize("link", SESSION_LINKS)
def test_whoever_has_not_said_hello_is_refused_whatever_epoch_it_claims(cluster: Cluster, link: str) -> None:
    kind, body = QUERIES[link]
    with Attacker(link, endpoint_of(cluster, link)) as attacker:
        for epoch in (0, 1, 2, 100):
            answer = attacker.ask(frame(kind, body, epoch=epoch, number=1))
            assert isinstance(answer, Refused)
            assert (answer.code, answer.expected) == (RefusalCode.NO_SESSION, "HELLO as the first message")


@pytest.mark.parametrize("link", SESSION_LINKS)
def test_a_role_that_the_link_does_not_know_is_refused(cluster: Cluster, link: str) -> None:
    with Attacker(link, endpoint_of(cluster, link)) as attacker:
        answer = attacker.ask(*hello(link, role="king"))
    assert isinstance(answer, Refused)
    assert answer.code is RefusalCode.UNKNOWN_NAME
    assert answer.expected.startswith(WORDS_OF[link])


@pytest.mark.parametrize(("link", "name"), [("hcall", "lp1"), ("fabric", "nx0")])
def test_a_live_name_is_not_given_to_a_second_process(cluster: Cluster, link: str, name: str) -> None:
    with Attacker(link, endpoint_of(cluster, link)) as attacker:
        answer = attacker.ask(*hello(link, name=name))
    assert isinstance(answer, Refused)
    assert answer.code is RefusalCode.IN_USE
    assert answer.expected == f"no live session of {name!r}"


@pytest.mark.parametrize(("link", "name"), [("hcall", "lp1"), ("fabric", "nx0"), ("hmc", "x"), ("device", "x")])
def test_a_session_is_not_resumed_without_its_secret(cluster: Cluster, link: str, name: str) -> None:
    with Attacker(link, endpoint_of(cluster, link)) as attacker:
        for epoch in (1, 2):
            answer = attacker.ask(*hello(link, name=name, epoch=epoch, secret=NOBODY))
            assert isinstance(answer, Refused)
            assert (answer.code, answer.expected) == (
                RefusalCode.SESSION_DEAD, "the epoch and secret of a live session",
            )  # fmt: skip


@pytest.mark.parametrize("link", ["hmc", "device"])
def test_another_sessions_epoch_is_refused(cluster: Cluster, link: str) -> None:
    kind, body = QUERIES[link]
    with Attacker(link, endpoint_of(cluster, link)) as attacker:
        attacker.hello(ROLES[link])
        for epoch in (0, attacker.epoch - 1, attacker.epoch + 1):
            answer = attacker.ask(frame(kind, body, epoch=epoch, number=1))
            assert isinstance(answer, Refused)
            assert (answer.code, answer.expected) == (RefusalCode.EPOCH, "the session's epoch"), "which is a secret"


@pytest.mark.parametrize("link", ["hmc", "device"])
@pytest.mark.parametrize(
    ("number", "code"),
    [(0, RefusalCode.STALE_NUMBER), (65, RefusalCode.OUTSTANDING), (1 << 62, RefusalCode.OUTSTANDING)],
)
def test_a_request_number_outside_the_session_is_refused(
    cluster: Cluster, link: str, number: int, code: RefusalCode
) -> None:
    kind, body = QUERIES[link]
    with Attacker(link, endpoint_of(cluster, link)) as attacker:
        attacker.hello(ROLES[link])
        answer = attacker.ask(frame(kind, body, attacker.epoch, number))
    assert isinstance(answer, Refused)
    assert answer.code is code
    assert "number" in answer.expected


# System calls with what is not the caller's, and amounts that are none.


@pytest.mark.parametrize(
    ("kind", "body", "reason", "words"),
    [
        ("tx_win_open", {"descriptor": "honest"}, KernelReason.BAD_DESCRIPTOR, "descriptor"),
        ("mmap", {"descriptor": "honest"}, KernelReason.BAD_DESCRIPTOR, "descriptor"),
        ("close_descriptor", {"descriptor": "honest"}, KernelReason.BAD_DESCRIPTOR, "descriptor"),
        ("unmap", {"mapping": "honest"}, KernelReason.BAD_DESCRIPTOR, "mapping"),
        ("tx_win_open", {"descriptor": "own", "version": 2}, KernelReason.VERSION, "expected 1"),
        ("tx_win_open", {"descriptor": "own", "version": -1}, KernelReason.VERSION, "expected 1"),
        ("tx_win_open", {"descriptor": "own", "vas_id": 1 << 40}, KernelReason.FLAGS, "16 bits"),
        ("tx_win_open", {"descriptor": "own", "flags": -1}, KernelReason.FLAGS, "negative"),
        ("mmap", {"descriptor": "own", "length_bytes": -1}, KernelReason.LENGTH, "bytes"),
        ("mmap", {"descriptor": "own", "length_bytes": (1 << 63) - 1}, KernelReason.LENGTH, "bytes"),
        ("mmap", {"descriptor": "own", "offset_bytes": -4096}, KernelReason.OFFSET, "-4096"),
        ("mmap", {"descriptor": "own"}, KernelReason.NO_WINDOW, ""),
        ("read_file", {"path": "/etc/passwd"}, KernelReason.NO_FILE, "/etc/passwd"),
        ("read_file", {"path": f"{SYSFS}/../../../../../../../etc/passwd"}, KernelReason.NO_FILE, ".."),
        ("read_file", {"path": f"/{TOTAL}"}, KernelReason.NO_FILE, "//"),
        ("read_file", {"path": "\x00"}, KernelReason.NO_FILE, ""),
        ("read_file", {"path": ""}, KernelReason.NO_FILE, ""),
        ("read_file", {"path": UPDATE}, KernelReason.NOT_READABLE, "mode"),
        ("write_file", {"path": TOTAL, "text": "65535"}, KernelReason.NOT_WRITABLE, "mode"),
        ("write_file", {"path": "/etc/passwd", "text": "x"}, KernelReason.NO_FILE, "/etc/passwd"),
        ("write_file", {"path": UPDATE, "text": "-1"}, KernelReason.BAD_NUMBER, ""),
        ("write_file", {"path": UPDATE, "text": "65536"}, KernelReason.BAD_NUMBER, ""),
        ("write_file", {"path": UPDATE, "text": "9" * 60_000}, KernelReason.BAD_NUMBER, ""),
    ],
)
def test_a_system_call_with_what_is_not_the_callers_fails_with_errno_and_reason(
    cluster: Cluster, kind: str, body: dict[str, Any], reason: KernelReason, words: str
) -> None:
    with Attacker("device", endpoint_of(cluster, "device")) as attacker:
        attacker.hello("client")
        opened = attacker.say("open_device", {})
        assert isinstance(opened, DeviceOpened)
        # The honest user's numbers are small: one that this process does not have stands for them.
        numbers = {"own": opened.descriptor, "honest": opened.descriptor + 1}
        answer = attacker.say(kind, {key: numbers.get(value, value) if isinstance(value, str) else value
                                     for key, value in body.items()})  # fmt: skip
    assert isinstance(answer, OsFailure)
    assert (answer.reason, answer.errno) == (reason, REASON_ERRNO[reason])
    assert words in answer.detail


def test_a_fault_in_another_process_mapping_is_a_bus_error(cluster: Cluster) -> None:
    with Attacker("device", endpoint_of(cluster, "device")) as attacker:
        attacker.hello("client")
        for mapping in range(1, 5):
            answer = attacker.say("fault", {"mapping": mapping, "instruction": "paste"})
            assert isinstance(answer, FaultHandled)
            assert (answer.outcome, answer.address) == (FaultOutcome.SIGBUS, None)


@pytest.mark.parametrize("window", ["honest", "unknown", "none"])
def test_a_stale_token_is_a_fault_and_takes_no_window_credit(cluster: Cluster, honest: Honest, window: str) -> None:
    window_id = {"honest": honest.window_id, "unknown": 0xFFFF_FFFF, "none": 0}[window]
    crb = {"function": 0, "target_bytes": 100}
    for unit in ("nx0", "nx1"):
        with Attacker("paste", cluster.folder.addresses().paste[unit]) as attacker:
            for number in (0, 1, (1 << 63) - 1, (1 << 64) - 1):
                body = {"window_id": window_id, "token": NOBODY, "number": number, "crb": crb}
                answer = attacker.ask(frame("paste", body), b"data")
                assert answer == PasteFaulted(window_id=window_id, number=number)


@pytest.mark.parametrize(
    ("kind", "body", "code", "words"),
    [
        ("change_processors", {"lpar": "lp9", "cores": 1}, "unknown_lpar", "no partition 'lp9'"),
        ("change_processors", {"lpar": "lp1", "cores": 0}, "bad_amount", "0 cores"),
        ("change_processors", {"lpar": "lp1", "cores": -(1 << 31)}, "too_few_processors", ""),
        ("change_processors", {"lpar": "lp1", "cores": (1 << 31) - 1}, "", "2147483647 additional requested"),
        ("set_entitlement", {"lpar": "lp3", "hundredths": -1}, "too_few_processors", ""),
        ("set_entitlement", {"lpar": "lp3", "hundredths": (1 << 31) - 1}, "", "additional requested"),
        ("set_qos_credits", {"lpar": "lp1", "credits": -1}, "bad_amount", "came -1"),
        ("set_qos_credits", {"lpar": "lp1", "credits": 65_535}, "HSCLC016", "65535"),
        ("set_qos_credits", {"lpar": "lp1", "credits": 65_536}, "bad_amount", "came 65536"),
    ],
)
def test_an_amount_that_is_none_is_refused_by_the_console_with_its_numbers(
    cluster: Cluster, kind: str, body: dict[str, Any], code: str, words: str
) -> None:
    with Attacker("hmc", endpoint_of(cluster, "hmc")) as attacker:
        answer = attacker.hello("hmc").say(kind, {**body, "wait_ms": 1000})
    assert isinstance(answer, ConsoleFailure)
    assert code in answer.code
    assert words in answer.text
    assert answer.advice
