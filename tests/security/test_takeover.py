"""A peer may choose the routing id of a connection that is gone. It gets nothing of the session that was there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.clock import SECOND_US
from protocol.codes import VasQuery
from protocol.console_messages import QuerySystem
from protocol.device_messages import ReadFile
from protocol.fabric_messages import UnitReady
from protocol.hcall_messages import HQueryVasCapabilities
from protocol.key_files import make_pair
from protocol.key_source import Admission, KeySource
from protocol.keys import KeyFile, Keyring, KeyRole, Principal
from protocol.listener import Listener
from protocol.message import Message
from protocol.refusals import RefusalCode
from protocol.session_messages import Beat, BeatEcho, Bye, ByeDone, Hello, Probe, Refused, Welcome
from protocol.socket import new_routing_id
from tests.failures.rows import failure
from tests.security.stranger import Stranger
from tests.security.system import Secured, eventually

ROOT = Path(__file__).parents[2]
KNOCK_S = 2.0
KNOCKS = 10


def on_the_connection_of(dead: bytes, link: str, endpoint: str, keyring: Keyring, body: Message, epoch: int) -> Refused:
    """What is answered to a message under the routing id of a connection that is gone.

    While the listener has not yet seen that it is gone it passes a second connection of that id over.
    """
    for _ in range(KNOCKS):
        with Stranger(link, endpoint, keyring, routing_id=dead) as stranger:
            stranger.say(body, epoch=epoch)
            try:
                return stranger.hear(Refused, KNOCK_S)
            except AssertionError:
                continue
    raise AssertionError("the listener took no connection under that routing id")


@failure(
    "security",
    "a peer with a key takes the routing id of a connection that is gone, to speak in its session",
    seen="Its messages are refused (`no_session`); the session's own process is back on a new connection.",
    lasts="Nothing.",
    kept="The session, its lease and its answers: no word of the other key counts as its holder's.",
)
@pytest.mark.parametrize(
    ("link", "victim", "intruder", "role", "name"),
    [("hcall", "lpar:lp3", "lpar:lp2", "lpar", "lp3"), ("hmc", "hmc", "observer", "hmc", "console-1")],
)
@pytest.mark.parametrize("body", [Beat(sequence=1), Bye()], ids=["beat", "bye"])
def test_another_key_on_the_routing_id_of_a_session_gets_nothing_of_it(
    system: Secured, link: str, victim: str, intruder: str, role: str, name: str, body: Message
) -> None:
    listener: Listener = getattr(system.hypervisor, link)
    incarnation = os.urandom(16)
    with Stranger(link, system.links[link], system.keyring(victim)) as holder:
        holder.say(Hello(role=role, name=name, incarnation=incarnation), epoch=0)
        welcome = holder.hear(Welcome)
        holder.say(Beat(sequence=1), epoch=welcome.epoch)
        session = listener.sessions[name]
        eventually(lambda: session.proven, "the session is its holder's")
        dead = session.peer
        assert dead is not None
    refused = on_the_connection_of(dead, link, system.links[link], system.keyring(intruder), body, welcome.epoch)
    assert refused.code is RefusalCode.NO_SESSION
    assert str(welcome.epoch) not in refused.expected
    assert session.alive
    assert session.peer is None
    with Stranger(link, system.links[link], system.keyring(intruder), routing_id=dead) as stranger:
        stranger.say(body, epoch=welcome.epoch)
        stranger.hear(Refused)
        with pytest.raises(AssertionError):
            stranger.hear(Probe, 2 * listener.terms.beat_us / SECOND_US)
    assert session.peer is None
    with Stranger(link, system.links[link], system.keyring(victim)) as holder:
        again = Hello(role=role, name=name, incarnation=incarnation, epoch=welcome.epoch, secret=welcome.secret)
        holder.say(again, epoch=0)
        assert holder.hear(Welcome).resumed
        holder.say(Bye(), epoch=welcome.epoch)
        eventually(lambda: not session.alive, "the session has ended")


def test_a_hello_of_another_key_is_refused_under_the_routing_id_of_a_session_so_that_none_goes_on_there(
    system: Secured,
) -> None:
    """Its own name is in use, so that its HELLO would begin no session of its own."""
    hmc = system.links["hmc"]
    with Stranger("hmc", hmc, system.keyring("observer")) as own:
        own.hello("observer", "observer-4", Welcome)
        with Stranger("hmc", hmc, system.keyring("hmc")) as holder:
            welcome = holder.hello("hmc", "console-4", Welcome)
            holder.say(Beat(sequence=1))
            session = system.hypervisor.hmc.sessions["console-4"]
            eventually(lambda: session.proven, "the session is its holder's")
            dead = session.peer
            assert dead is not None
        hello = Hello(role="observer", name="observer-4", incarnation=os.urandom(16))
        with Stranger("hmc", hmc, system.keyring("observer"), routing_id=dead) as other:
            other.say(hello, epoch=0)
            assert other.hear(Refused).code is RefusalCode.KEY
            hears_no_session(other, system.hypervisor.hmc)
            assert session.peer is None
            other.say(QuerySystem(), epoch=welcome.epoch, number=1)
            assert other.hear(Refused).code is RefusalCode.NO_SESSION
            hears_no_session(other, system.hypervisor.hmc)
        eventually(lambda: not session.alive, "nobody keeps it alive")
        own.say(Bye())
        own.hear(ByeDone)


@failure(
    "security",
    "a peer with a key takes the routing id of a connection that is gone, and says what nobody can read",
    seen="It hears one refusal, and then nothing.",
    lasts="Nothing.",
    kept="The session's words; the session ends with its lease unless its own process is back.",
)
def test_who_says_nothing_readable_under_the_routing_id_of_a_session_hears_nothing_of_it(system: Secured) -> None:
    hmc = system.links["hmc"]
    with Stranger("hmc", hmc, system.keyring("hmc")) as holder:
        holder.hello("hmc", "console-5", Welcome)
        holder.say(Beat(sequence=1))
        session = system.hypervisor.hmc.sessions["console-5"]
        eventually(lambda: session.proven, "the session is its holder's")
        dead = session.peer
        assert dead is not None
    with Stranger("hmc", hmc, system.keyring("observer"), routing_id=dead) as other:
        other.raw([b"\xc1"])
        other.hear(Refused)
        hears_no_session(other, system.hypervisor.hmc)
        assert session.peer is None
        eventually(lambda: not session.alive, "nobody keeps it alive")


def hears_no_session(stranger: Stranger, listener: Listener) -> None:
    """A session that lives with its connection is probed there, or looked for: that would come first."""
    with pytest.raises(AssertionError, match="no Probe"):
        stranger.hear(Probe, 3 * listener.terms.beat_us / SECOND_US)


@pytest.mark.parametrize(
    ("link", "victim", "intruder", "role", "name"),
    [("hcall", "lpar:lp3", "lpar:lp2", "lpar", "lp3"), ("hmc", "hmc", "observer", "hmc", "console-2")],
)
def test_a_session_is_resumed_with_its_own_key_alone_whatever_secret_is_shown(
    system: Secured, link: str, victim: str, intruder: str, role: str, name: str
) -> None:
    incarnation = os.urandom(16)
    with (
        Stranger(link, system.links[link], system.keyring(victim)) as holder,
        Stranger(link, system.links[link], system.keyring(intruder)) as other,
    ):
        holder.say(Hello(role=role, name=name, incarnation=incarnation), epoch=0)
        welcome = holder.hear(Welcome)
        again = Hello(role=role, name=name, incarnation=incarnation, epoch=welcome.epoch, secret=welcome.secret)
        other.say(again, epoch=0)
        assert other.hear(Refused).code is RefusalCode.KEY
        holder.say(again, epoch=0)
        assert holder.hear(Welcome).resumed
        holder.say(Bye(), epoch=welcome.epoch)
        holder.hear(ByeDone)


@pytest.mark.parametrize(
    ("link", "owner", "role", "name", "request_"),
    [
        ("hcall", "lpar:lp3", "lpar", "lp3", HQueryVasCapabilities(query_type=VasQuery.OVERALL)),
        ("hmc", "hmc", "hmc", "console-3", QuerySystem()),
        ("device", "client:lp1", "client", "process-3", ReadFile(path="/proc/powerpc/lparcfg")),
        ("fabric", "nx:nx0", "nxunit", "nx0", UnitReady(window_limit=1, fifo_depth=1, request_limit_bytes=1)),
    ],
)
def test_what_was_said_in_a_session_is_worth_nothing_again_on_another_connection(
    system: Secured, link: str, owner: str, role: str, name: str, request_: Message
) -> None:
    """Also with the right key: byte for byte, as who had recorded it would say it."""
    endpoint = system.device["lp1"] if link == "device" else system.links[link]
    with (
        Stranger(link, endpoint, system.keyring(owner)) as holder,
        Stranger(link, endpoint, system.keyring(owner)) as other,
    ):
        hello = Hello(role=role, name=name, incarnation=os.urandom(16))
        if link == "fabric":
            epoch = system.hypervisor.fabric.sessions[name].epoch
        else:
            holder.say(hello, epoch=0)
            epoch = holder.hear(Welcome).epoch
            holder.say(request_, epoch=epoch, number=1)
            holder.say(Beat(sequence=1), epoch=epoch)
            holder.hear(BeatEcho)
        other.say(hello, epoch=0)
        assert other.hear(Refused).code is RefusalCode.IN_USE
        for number, body in ((1, request_), (0, Beat(sequence=1)), (0, Bye())):
            other.say(body, epoch=epoch, number=number)
            assert other.hear(Refused).code is RefusalCode.NO_SESSION
        if link != "fabric":
            holder.say(Bye(), epoch=epoch)
            holder.hear(ByeDone)


@pytest.mark.parametrize(("link", "owner"), [("hcall", "lpar:lp1"), ("device", "client:lp1"), ("fabric", "nx:nx0")])
def test_a_connection_is_its_keys_alone(link: str, owner: str) -> None:
    """Also where both keys are the same principal's, as while a key is being changed."""
    principal = Principal.parse(owner)
    one, other = make_pair().public, make_pair().public
    listens = {"hcall": KeyRole.HYPERVISOR, "fabric": KeyRole.HYPERVISOR, "device": KeyRole.LPAR}[link]
    listener = Principal(listens, "lp1" if link == "device" else "")
    admission = Admission(KeySource(KeyFile({listener: make_pair()}, {principal: (one, other)}).keyring(listener)))
    assert not admission.continues(link, b"c1", one), "it has not said HELLO"
    admission.remember(link, b"c1", one)
    assert admission.continues(link, b"c1", one)
    assert not admission.continues(link, b"c1", other)
    assert not admission.continues(link, b"c2", one)
    admission.leave(link, b"c1")
    assert not admission.continues(link, b"c1", other)
    assert admission.continues(link, b"c1", one), "ZeroMQ has made it again"


PROGRAM = """
import sys, zmq
from protocol.link import LINKS
from protocol.socket import NodeSocket
context = zmq.Context()
listening = NodeSocket.listen(context, LINKS["hmc"], sys.argv[1])
dialling = context.socket(zmq.DEALER)
dialling.connect(sys.argv[1])
dialling.send(b"")
assert listening.zmq.poll(20_000)
print(listening.zmq.recv_multipart()[0].hex())
dialling.close(linger=0)
listening.close()
"""


def test_the_routing_ids_that_a_process_gives_out_are_not_those_of_the_next_process(tmp_path: Path) -> None:
    """libzmq counts them from rand(), which it does not seed: the next one would be known to everybody."""
    words = [sys.executable, "-c", PROGRAM, f"ipc://{tmp_path}/s"]
    given = [
        subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() for _ in range(2)
    ]
    assert [len(bytes.fromhex(text)) for text in given] == [5, 5], "libzmq's own"
    assert given[0] != given[1]


def test_a_process_calls_each_of_its_connections_otherwise(system: Secured) -> None:
    peers = {session.peer for session in system.hypervisor.hcall.sessions.values()}
    assert len({new_routing_id() for _ in range(1000)} | peers) == 1000 + len(peers)
    assert all(peer is not None and len(peer) > 16 for peer in peers)
