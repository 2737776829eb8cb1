"""What who has a connection may say on it, on real sockets."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable

import pytest

from hmc.connection import Console, ConsoleRefused, ConsoleUnreachable
from hmc.observer import Observer
from lpar.client import Lpar, NxGzip, OutputLimit
from protocol.codes import HcallCode
from protocol.curve import KeyRefused
from protocol.device_messages import FileText, ReadFile
from protocol.hcall_messages import HcallStatus, HDeallocateVasWindow
from protocol.key_files import make_pair
from protocol.keys import Keyring, KeyRole, Principal
from protocol.paste_messages import Crb, Paste, PasteAccepted, PasteFaulted
from protocol.refusals import RefusalCode
from protocol.session_messages import Bye, ByeDone, Hello, Refused, Welcome
from protocol.telemetry_messages import HcallMade
from protocol.wire import Envelope, encode
from tests.failures.rows import failure
from tests.security.stranger import Stranger, beyond_its_role
from tests.security.system import ABSENT, Secured, eventually

Figure = Callable[[str, float, str], None]
SYSFS = "/sys/devices/virtual/misc/vas/vas0/gzip/default_capabilities/nr_used_credits"
DENIAL_S = 15.0
MEBIBYTE = 1 << 20


# A key means a role and a name, checked against what the peer claims.


@failure(
    "security",
    "a partition claims another one's name",
    seen="Its HELLO is refused (`key`), and it ends with exit code 8.",
    lasts="At once.",
    kept="The other partition's session, windows and credits.",
)
@pytest.mark.parametrize(
    ("link", "owner", "role", "name"),
    [
        ("hcall", "lpar:lp2", "lpar", "lp1"), ("hcall", "lpar:lp2", "nxunit", "lp2"),
        ("fabric", "nx:nx1", "nxunit", "nx0"), ("hmc", "observer", "hmc", "c"), ("hmc", "observer", "chaos", "c"),
        ("hmc", "chaos", "hmc", "c"), ("hmc", "hmc", "observer", "c"), ("device", "client:lp1", "kernel", "c"),
    ],
)  # fmt: skip
def test_a_hello_that_claims_another_role_or_name_than_its_key_is_refused(
    system: Secured, link: str, owner: str, role: str, name: str
) -> None:
    endpoint = system.device["lp1"] if link == "device" else system.links[link]
    with Stranger(link, endpoint, system.keyring(owner)) as stranger:
        refusal = stranger.hello(role, name, Refused)
    assert refusal.code is RefusalCode.KEY
    assert "by the key of this connection" in refusal.expected
    assert name in refusal.came


@pytest.mark.parametrize(("role", "name"), [("lpar", ABSENT), ("enrol", "anybody")])
def test_the_enrolment_key_gets_a_connection_and_is_told_that_it_claims_no_partition_by_its_name(
    system: Secured, role: str, name: str
) -> None:
    with Stranger("hcall", system.links["hcall"], system.keyring("enrol")) as stranger:
        refusal = stranger.hello(role, name, Refused)
    assert refusal.code is RefusalCode.KEY
    assert "the enrolment key claims a free slot" in refusal.expected
    assert (name in refusal.came, "(lpar:NAME)" in refusal.expected) == (True, True)


def test_an_lpar_cannot_act_for_another(system: Secured) -> None:
    """Not by its name, not on its connection, and its windows do not exist for a session of one's own."""
    endpoint, keyring = system.links["hcall"], system.keyring("lpar:lp3")
    with Lpar(system.device["lp1"], keys=system.keyring("client:lp1")) as lpar:
        window = lpar.open_window()
        deallocate = HDeallocateVasWindow(window_id=window.window_id)
        with Stranger("hcall", endpoint, keyring) as stranger:
            assert stranger.hello("lpar", "lp1", Refused).code is RefusalCode.KEY
            stranger.say(deallocate, epoch=system.lpars["lp1"].dialer.session.epoch, number=1)
            assert stranger.hear(Refused).code is RefusalCode.NO_SESSION
            stranger.hello("lpar", "lp3", Welcome)
            assert stranger.ask(deallocate, HcallStatus).code is HcallCode.H_PARAMETER
            stranger.say(Bye())
            stranger.hear(ByeDone)
        assert lpar.read(SYSFS).strip() == "1"
        assert list(system.hypervisor.ledger.windows) == [window.window_id]
        window.close()


def test_a_client_cannot_manage(system: Secured) -> None:
    with (
        pytest.raises(ConsoleUnreachable, match="not for the hmc link"),
        Console(system.links["hmc"], keys=system.keyring("client:lp1")) as console,
    ):
        console.change_processors("lp1", -1, DENIAL_S)
    keyring = beyond_its_role(system, "client:lp1", "hmc", "")
    with Stranger("hmc", system.links["hmc"], keyring) as stranger, pytest.raises(KeyRefused):
        stranger.hello("hmc", "c", Welcome)


def test_a_claim_is_checked_whatever_epoch_stands_beside_it(system: Secured) -> None:
    impostor = Hello(role="lpar", name="lp1", incarnation=os.urandom(16))
    resuming = impostor.model_copy(update={"epoch": 1, "secret": os.urandom(16)})
    for hello, epoch in ((impostor, 1), (resuming, 0), (resuming, 1)):
        with Stranger("hcall", system.links["hcall"], system.keyring("lpar:lp2")) as stranger:
            stranger.say(hello, epoch=epoch)
            assert stranger.hear(Refused).code is RefusalCode.KEY


@failure(
    "security",
    "an observer asks for a change",
    seen="The change is refused (`read_only`); queries and the telemetry stream work.",
    lasts="Always: an observer's key can never change anything.",
    kept="The configuration.",
)
def test_an_observer_reads_and_cannot_write(system: Secured) -> None:
    keyring = system.keyring("observer")
    with (
        Console(system.links["hmc"], keys=keyring) as console,
        Observer(system.links["telemetry"], keyring) as observer,
    ):
        status = console.system()
        cores = {lpar.name: lpar.cores for lpar in status.lpars}
        assert list(console.windows()) == []
        for change in (
            lambda: console.change_processors("lp1", -1), lambda: console.set_qos_credits("lp1", 1),
            lambda: console.set_entitlement("lp1", 50), lambda: console.migrate("lp1"),
            lambda: console.hold_notifications("lp1", True),
        ):  # fmt: skip
            with pytest.raises(ConsoleRefused) as refused:
                change()
            assert refused.value.failure.code == "read_only"
        assert {lpar.name: lpar.cores for lpar in console.system().lpars} == cores
        with Lpar(system.device["lp1"], keys=system.keyring("client:lp1")) as lpar:
            assert _hears_an_hcall(observer, lpar)


def test_an_observer_that_knows_several_keys_of_the_hypervisor_finds_the_right_one(system: Secured) -> None:
    keyring, hypervisor = system.keyring("observer"), Principal(KeyRole.HYPERVISOR)
    public = {**keyring.public, hypervisor: (make_pair().public, *keyring.public[hypervisor])}
    with (
        Observer(system.links["telemetry"], Keyring(keyring.owner, keyring.pair, public)) as observer,
        Lpar(system.device["lp1"], keys=system.keyring("client:lp1")) as lpar,
    ):
        assert _hears_an_hcall(observer, lpar)


def _hears_an_hcall(observer: Observer, lpar: Lpar) -> bool:
    """A subscription takes effect some time after its connection: windows are opened until one is heard of."""
    for _ in range(100):
        lpar.open_window().close()
        if observer.wait_for(lambda message: isinstance(message, HcallMade), 0.2) is not None:
            return True
    return False


def test_the_hmc_and_the_chaos_keys_may_change(system: Secured) -> None:
    for owner, cores in (("hmc", -1), ("chaos", 1)):
        with Console(system.links["hmc"], keys=system.keyring(owner)) as console:
            assert console.change_processors("lp1", cores).lpar == "lp1"


@failure(
    "security",
    "a client pastes to a window that is not its own",
    seen="Without the window's token the unit answers with a fault, as for a window that is not there.",
    lasts="Always: tokens are 16 random bytes, new with each address.",
    kept="The window, its credit and its data.",
)
def test_a_paste_needs_the_windows_token(system: Secured) -> None:
    with Lpar(system.device["lp1"], keys=system.keyring("client:lp1")) as lpar:
        window = lpar.open_window()
        area = window.map()
        address = area.address
        assert address is not None
        guess = Paste(window_id=address.window_id, token=os.urandom(16), number=1, crb=Crb(function=0, target_bytes=99))
        keyring = system.keyring("client:lp2")
        with Stranger("paste", address.endpoints["local"], keyring, address.unit) as stranger:
            stranger.say(guess, epoch=0, number=1, frames=(b"x",))
            assert stranger.hear(PasteFaulted).window_id == address.window_id
            stranger.say(guess.model_copy(update={"token": address.token}), epoch=0, number=1, frames=(b"x",))
            assert stranger.hear(PasteAccepted).window_id == address.window_id
        window.close()


# Replays.


@failure(
    "security",
    "somebody repeats, on another connection, what a client has said",
    seen="Each message is refused (`no_session`, `in_use`); the client notices nothing.",
    lasts="Always: messages belong to the connection of their session, and that to its key.",
    kept="The session, and the outcome of each request: nothing is done twice.",
)
def test_replays_from_a_foreign_connection_are_refused(system: Secured) -> None:
    said: list[Envelope] = []

    def record(direction: str, connection: str, envelope: Envelope) -> None:
        if (direction, connection) == ("sent", "device"):
            said.append(envelope)

    with Lpar(system.device["lp1"], on_message=record, keys=system.keyring("client:lp1")) as lpar:
        window = lpar.open_window()
        sessions = set(system.lpars["lp1"].listener.sessions)
        with Stranger("device", system.device["lp1"], system.keyring("client:lp1")) as stranger:
            codes = set()
            for envelope in said:
                stranger.raw(encode(envelope))
                codes.add(stranger.hear(Refused).code)
        assert codes == {RefusalCode.IN_USE, RefusalCode.NO_SESSION}
        with Stranger("device", system.device["lp2"], system.keyring("client:lp2")) as stranger:
            for envelope in list(said)[1:]:
                stranger.raw(encode(envelope))
                assert stranger.hear(Refused).code is RefusalCode.NO_SESSION
        assert set(system.lpars["lp1"].listener.sessions) == sessions
        assert lpar.read(SYSFS).strip() == "1"
        window.close()
        assert lpar.is_alive


def test_a_request_of_another_connections_epoch_is_refused(system: Secured) -> None:
    """The number of an epoch is easily guessed, and guessing it is worth nothing."""
    with Stranger("device", system.device["lp1"], system.keyring("client:lp1")) as owner:
        owner.hello("client", "somebody", Welcome)
        assert owner.ask(ReadFile(path=SYSFS), FileText).text.strip() == "0"
        with Stranger("device", system.device["lp1"], system.keyring("client:lp1")) as thief:
            thief.say(ReadFile(path=SYSFS), epoch=owner.epoch, number=2)
            assert thief.hear(Refused).code is RefusalCode.NO_SESSION
        assert owner.ask(ReadFile(path=SYSFS), FileText).text.strip() == "0"


# Bombs.


@failure(
    "security",
    "a client decompresses a bomb",
    seen="OutputLimit, as soon as more than `max_bytes` would come out.",
    lasts="As long as that many bytes take.",
    kept="The process: its memory stays in proportion to the limit, not to the bomb.",
)
def test_a_decompression_bomb_meets_the_output_limit(system: Secured, figure: Figure) -> None:
    bomb = gzip.compress(bytes(256 * MEBIBYTE), 9)
    with Lpar(system.device["lp1"], keys=system.keyring("client:lp1")) as lpar:
        for mode in ("nx", "software"):
            with NxGzip(lpar, small_bytes=0, mode=mode) as nx:
                tracemalloc.start()
                try:
                    with pytest.raises(OutputLimit):
                        nx.decompress(bomb, max_bytes=2 * MEBIBYTE)
                    peak = tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()
            figure(f"peak of a 256 MiB bomb against a limit of 2 MiB ({mode})", peak / MEBIBYTE, "MiB")
            assert peak < 32 * MEBIBYTE


def test_after_all_that_no_window_and_no_credit_is_left_behind(system: Secured) -> None:
    eventually(lambda: not system.hypervisor.ledger.windows, "every window is closed")
    assert all(not core.contexts for core in system.units.values())
