"""Keys of running processes: wrong ones, changed ones, revoked ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hmc.connection import Console, ConsoleUnreachable
from hmc.observer import Observer
from lpar.client import Lpar
from protocol.codes import ExitCode
from protocol.key_files import init_keys, load_keys
from protocol.keys import KeysError, Principal, own_line, principals_of, public_lines
from protocol.system import parse_system
from protocol.telemetry_messages import HcallMade
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.processes.cluster import WAIT_S, eventually
from tests.processes.tcp.system import OWN_KEYS, OWNERS, ROLES, SYSTEM, Apart, compressed_by_nx, working


def foreign(system: Apart, owner: str) -> Path:
    """A key file with a secret that another system made for a principal of the same name."""
    others, path = system.folder / "others", system.folder / f"foreign-{owner.replace(':', '-')}.keys"
    init_keys(others, principals_of(parse_system(SYSTEM, "system.toml")))
    principal = Principal.parse(owner)
    ours, theirs = load_keys(system.keys), load_keys(others)
    path.write_text(own_line(principal, theirs.own[principal]) + public_lines(ours.public, sorted(ours.public)))
    return path


def test_a_wrong_key_of_each_kind_is_refused(system: Apart) -> None:
    impostors = {}
    for name in ("hypervisor", "nx0", "lp1"):
        owner = OWNERS[ROLES[name]].format(name)
        impostors[name] = system.impostor(name, foreign(system, owner))
    with pytest.raises(PermissionError, match="does not take the key of client:lp1"):
        Lpar(system.links["lp1"], keys=foreign(system, "client:lp1"), timeout=WAIT_S)
    with pytest.raises(PermissionError, match="key"):
        Lpar(system.links["lp1"], keys=system.for_user("lp2.keys", "client:lp2"), timeout=WAIT_S)
    for owner in ("hmc", "observer", "chaos"):
        with (
            pytest.raises(ConsoleUnreachable, match=f"does not take the key of {owner}"),
            Console(system.links["hmc"], keys=foreign(system, owner)) as console,
        ):
            console.system(WAIT_S)
    with pytest.raises(KeysError, match="exactly one hmc or observer or chaos, there are: enrol"):
        Console(system.links["hmc"], keys=system.for_user("enrol.keys", "enrol"))
    with (
        pytest.raises(ConsoleUnreachable, match="breaks off every handshake"),
        Console(impostors["hypervisor"].links["hmc"], keys=system.for_user("hmc.keys", "hmc")) as console,
    ):
        console.system(WAIT_S)
    for name in ("nx0", "lp1"):
        code, said = impostors[name].ending()
        assert code == ExitCode.REFUSED
        assert "does not take the key of" in said
    impostors["hypervisor"].process.terminate()
    assert impostors["hypervisor"].ending()[0] == ExitCode.OK
    assert system.is_running()


def test_every_key_can_be_changed_without_losing_a_window(system: Apart) -> None:
    """The procedure of docs/security.md, with the commands it names."""
    with working(system, "lp1", "lp2") as clients:
        before = system.windows()
        for name in ("hypervisor", "nx1"):
            owner = OWNERS[ROLES[name]].format(name)
            old = load_keys(system.machine(name) / OWN_KEYS)
            system.change_keys("rotate", str(system.keys), owner)
            system.export_all()
            system.kill(name)
            system.start(name)
            system.wait_until_running()
            system.change_keys("revoke", str(system.keys), owner, "--old")
            system.export_all()
            new = load_keys(system.machine(name) / OWN_KEYS)
            assert new.own != old.own
            system.wait_until_running()
            assert system.windows() == before
            eventually(lambda: all(compressed_by_nx(nx) for nx in clients), "every window works")
        assert system.windows() == before


def test_a_key_that_was_changed_is_refused_once_its_old_one_is_taken_out(system: Apart) -> None:
    stolen = system.folder / "stolen.keys"
    system.for_user("stolen.keys", "client:lp3")
    system.change_keys("rotate", str(system.keys), "client:lp3")
    system.export_all()
    with Lpar(system.links["lp3"], keys=stolen, timeout=WAIT_S) as old:
        assert old.is_alive
        with system.client("lp3") as new:
            assert new.is_alive
    system.change_keys("revoke", str(system.keys), "client:lp3", "--old")
    system.export_all()
    with pytest.raises(PermissionError, match="does not take the key of client:lp3"):
        Lpar(system.links["lp3"], keys=stolen, timeout=WAIT_S)
    with system.client("lp3") as new:
        assert new.is_alive


def test_a_program_with_a_clients_old_key_works_until_that_is_taken_out_and_then_needs_a_session_of_its_own(
    system: Apart,
) -> None:
    """A program's own pair is that of its start."""
    with working(system, "lp3") as (old,):
        system.change_keys("rotate", str(system.keys), "client:lp3")
        system.export_all()
        (kept,) = system.windows()
        with working(system, "lp3"):
            assert system.in_use("lp3") == 2
            assert compressed_by_nx(old)
            assert kept in system.windows()
        system.change_keys("revoke", str(system.keys), "client:lp3", "--old")
        system.export_all()
        eventually(lambda: system.in_use("lp3") == 0, "the windows of the old key are closed")
        with pytest.raises(PermissionError, match="client:lp3: it may have been revoked"):
            old.lpar.read("/proc/powerpc/lparcfg")
    with working(system, "lp3") as (new,):
        assert compressed_by_nx(new)


@failure(
    "security",
    "a key is taken out of the public list while its owner is connected",
    seen="Nothing more that it says is heard, and its calls end with PermissionError; the listener logs `keys_read`.",
    lasts="Its windows are closed with its lease, counted from then.",
    kept="Everybody else's connections, windows and credits.",
)
def test_a_connected_client_whose_key_is_revoked_is_cut_off(system: Apart, figure: Figure) -> None:
    with working(system, "lp3", "lp1") as (outcast, other):
        kept = other.address
        assert kept is not None
        began = time.monotonic()
        system.change_keys("revoke", str(system.keys), "client:lp3")
        system.export_all()
        eventually(lambda: system.in_use("lp3") == 0, "its windows are closed")
        figure("key taken out to credits free (lease 1 s)", time.monotonic() - began, "s")
        assert "keys_read" in system.log("lp3")
        with pytest.raises(PermissionError, match="does not take the key of client:lp3"):
            outcast.lpar.read("/proc/powerpc/lparcfg")
        assert compressed_by_nx(other)
        assert [row.window_id for row in system.windows()] == [kept.window_id]
    (system.folder / "system.toml").write_text(SYSTEM)
    system.change_keys("init", str(system.keys), "--system", str(system.folder / "system.toml"))
    system.export_all()
    with working(system, "lp3"):
        assert system.in_use("lp3") == 1


def test_an_observer_whose_key_is_revoked_hears_no_more(system: Apart) -> None:
    def hears(observer: Observer) -> bool:
        with system.client("lp1") as lpar:
            lpar.open_window().close()
        return observer.wait_for(lambda message: isinstance(message, HcallMade), 0.5) is not None

    outcast_keys, hmc_keys = system.for_user("o.keys", "observer"), system.for_user("h.keys", "hmc")
    with (
        Observer(system.links["telemetry"], keys=outcast_keys) as outcast,
        Observer(system.links["telemetry"], keys=hmc_keys) as other,
    ):
        eventually(lambda: hears(outcast) and hears(other), "both hear")
        system.change_keys("revoke", str(system.keys), "observer")
        reads = system.log("hypervisor").count("keys_read")
        system.export("hypervisor")
        eventually(lambda: system.log("hypervisor").count("keys_read") > reads, "the hypervisor has read its keys")
        # The connection ends behind what was sent on it before.
        eventually(lambda: not list(outcast.messages()), "nothing comes any more")
        eventually(lambda: hears(other), "who has a key is back")
        assert list(outcast.messages(0.5)) == []


def test_a_key_file_that_is_damaged_changes_nothing(system: Apart) -> None:
    path = system.machine("hypervisor") / OWN_KEYS
    whole = path.read_text()
    with working(system, "lp1") as (nx,):
        for text in ("own hypervisor\n", ""):
            lines = system.log("hypervisor").count("keys_unreadable")
            path.write_text(text)
            eventually(lambda: system.log("hypervisor").count("keys_unreadable") > lines, "it is told")  # noqa: B023
            assert system.is_running()
        path.write_text(whole)
        assert compressed_by_nx(nx)
        assert system.is_running()
