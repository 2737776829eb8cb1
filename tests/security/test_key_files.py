"""Keys on disk: made once, read by their owner alone, handed out one by one."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol.key_files import PUBLIC_FILE, export_keys, init_keys, keys_of, load_keys, secret_path
from protocol.keys import KeyRole, KeysError, Principal, principals_of
from protocol.system import parse_system
from tests.security.system import SYSTEM
from vasbus.command import app
from vasbus.target import client_keys

EVERYBODY = principals_of(parse_system(SYSTEM, "secured.toml"))
LP1 = Principal(KeyRole.CLIENT, "lp1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A key folder with the keys of the system."""
    init_keys(tmp_path / "keys", EVERYBODY)
    return tmp_path / "keys"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_everybody_has_a_secret_file_for_its_owner_alone_and_a_line_in_the_public_list(folder: Path) -> None:
    assert mode(folder) == 0o700
    assert {mode(secret_path(folder, owner)) for owner in EVERYBODY} == {0o600}
    public = (folder / PUBLIC_FILE).read_text()
    keys = load_keys(folder)
    assert set(keys.own) == set(keys.public) == set(EVERYBODY)
    for owner in EVERYBODY:
        assert keys.public[owner] == (keys.own[owner].public,)
        assert keys.own[owner].secret not in public
    assert len({pair.secret for pair in keys.own.values()}) == len(EVERYBODY)
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_a_second_init_makes_what_is_missing_and_changes_nothing_else(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    grown = [*EVERYBODY, Principal(KeyRole.LPAR, "lp4")]
    assert init_keys(folder, EVERYBODY).new == ()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert init_keys(folder, grown).new == (grown[-1],)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: after[name] for name in before if name != PUBLIC_FILE} == {
        name: text for name, text in before.items() if name != PUBLIC_FILE
    }
    assert before[PUBLIC_FILE].splitlines() == [
        line for line in after[PUBLIC_FILE].splitlines() if b"lpar:lp4" not in line
    ]


def test_a_secret_that_was_taken_elsewhere_is_not_made_anew(folder: Path) -> None:
    secret_path(folder, LP1).unlink()
    assert init_keys(folder, EVERYBODY).new == ()
    assert not secret_path(folder, LP1).exists()


def test_an_init_that_was_killed_before_the_public_list_is_completed_by_the_next(folder: Path) -> None:
    keys = load_keys(folder)
    (folder / PUBLIC_FILE).unlink()
    assert init_keys(folder, EVERYBODY).new == ()
    assert load_keys(folder) == keys


def test_of_several_inits_at_the_same_time_each_sees_the_same_keys(tmp_path: Path) -> None:
    threads = [threading.Thread(target=init_keys, args=(tmp_path / "keys", EVERYBODY)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = load_keys(tmp_path / "keys")
    assert keys.public == {owner: (keys.own[owner].public,) for owner in EVERYBODY}


def test_an_exported_file_has_one_secret_and_the_public_keys_it_needs(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "lp1.keys"
    export_keys(folder, [LP1], out)
    assert mode(out) == 0o600
    keys, whole = load_keys(out), load_keys(folder)
    assert keys.own == {LP1: whole.own[LP1]}
    assert set(map(str, keys.public)) == {"lpar:lp1", "nx:nx0", "nx:nx1"}
    ring = keys_of(out, KeyRole.CLIENT)
    assert ring is not None
    assert ring.keyring.server_keys("device", "") == (whole.own[Principal(KeyRole.LPAR, "lp1")].public,)
    assert ring.keyring.server_keys("paste", "nx1") == (whole.own[Principal(KeyRole.NX, "nx1")].public,)


def test_an_export_overwrites_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.write_text("mine")
    with pytest.raises(KeysError, match="exists and was left as it is"):
        export_keys(folder, [LP1], out)
    assert out.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_gives_no_client_key_by_itself_because_it_has_several(folder: Path) -> None:
    with pytest.raises(KeysError, match="exactly one client, there are: client:lp1, client:lp2, client:lp3"):
        keys_of(folder, KeyRole.CLIENT)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("none.keys", None, "cannot read"), ("empty", "dir", "has no public.keys"),
        ("bad.keys", "own hmc a b", "line 1"),
        ("binary.keys", "\udcff", "cannot read"), ("huge.keys", "#" * (1 << 20) + "\n#", "at most"),
        ("odd.keys", "own hmc " + "1" * 40 + " " + "1" * 40, "do not belong together"),
    ],
)  # fmt: skip
def test_a_wrong_key_file_is_told_by_its_name(tmp_path: Path, name: str, text: str | None, complaint: str) -> None:
    path = tmp_path / name
    if text == "dir":
        path.mkdir()
    elif text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(KeysError, match=complaint) as refused:
        load_keys(path)
    assert name in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_secrets_that_this_user_may_not_read_count_as_absent(folder: Path) -> None:
    secret_path(folder, LP1).chmod(0)
    assert LP1 not in load_keys(folder).own


@pytest.mark.parametrize(
    ("lpar", "expected"),
    [("lpar-03", "client:lpar"), ("lpar-100", "client:lpar"), ("web-2", "client:web-2"), ("lp1", "client:lp1")],
)
def test_the_key_for_a_templates_clients_is_good_for_each_of_its_slots(
    lpar: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that has a key of its own is no slot, whatever it is called."""
    owners = [Principal(KeyRole.CLIENT, name) for name in ("lpar", "web", "web-2", "lp1")]
    init_keys(tmp_path / "keys", owners)
    monkeypatch.setenv("VASBUS_KEYS", str(tmp_path / "keys"))
    source = client_keys(lpar)
    assert source is not None
    assert str(source.keyring.owner) == expected
    with pytest.raises(KeysError, match="expected a secret key of client:lpar-x"):
        client_keys("lpar-x")


# The commands.


def test_the_commands_make_and_export_keys(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(SYSTEM)
    keys, out = tmp_path / "keys", tmp_path / "ops.keys"
    init = ["keys", "init", str(keys), "--system", str(tmp_path / "system.toml")]
    first = CliRunner().invoke(app, init)
    assert f"made {len(EVERYBODY)} keys" in first.output
    again = CliRunner().invoke(app, [*init, "--json"])
    assert json.loads(again.output) == {"made": [], "kept": [str(owner) for owner in EVERYBODY]}
    exported = CliRunner().invoke(app, ["keys", "export", str(keys), "observer,client:lp1", str(out)])
    assert exported.exit_code == 0, exported.output
    assert set(map(str, load_keys(out).own)) == {"observer", "client:lp1"}
    for pair in load_keys(keys).own.values():
        assert pair.secret not in first.output + again.output + exported.output
