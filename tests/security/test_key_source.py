"""Keys that change while a process runs: what it takes from its file, whom it still hears, and the changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol.key_changes import retire_keys, revoke_keys, rotate_key
from protocol.key_files import (
    PUBLIC_FILE,
    export_keys,
    init_keys,
    key_source,
    keys_of,
    load_keys,
    make_pair,
    secret_path,
)
from protocol.key_source import CALLERS_LIMIT, Admission, KeySource
from protocol.keys import Keyring, KeyRole, KeysError, Principal, principals_of
from protocol.system import parse_system
from tests.security.system import SYSTEM
from vasbus.command import app

EVERYBODY = principals_of(parse_system(SYSTEM, "secured.toml"))
HYPERVISOR, NX0, LP1 = Principal(KeyRole.HYPERVISOR), Principal(KeyRole.NX, "nx0"), Principal(KeyRole.LPAR, "lp1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init_keys(tmp_path / "keys", EVERYBODY)
    return tmp_path / "keys"


def source(folder: Path, owner: Principal) -> KeySource:
    return key_source(folder, lambda keys: keys.keyring(owner))


def key_of(folder: Path, owner: Principal) -> str:
    """The public key of its present secret."""
    return load_keys(folder).own[owner].public


# What a process takes from its file.


def test_a_file_that_has_not_changed_is_not_read(folder: Path) -> None:
    keys = source(folder, HYPERVISOR)
    before = keys.keyring
    assert keys.refresh() is None
    assert keys.keyring is before


def test_new_public_keys_are_taken_and_the_own_pair_stays(folder: Path) -> None:
    keys, old = source(folder, NX0), key_of(folder, NX0)
    rotate_key(folder, NX0)
    read = keys.refresh()
    assert read is not None
    assert (read.problem, read.shut_out, read.restart) == ("", frozenset(), True)
    assert keys.keyring.pair.public == old
    assert "restart this process" in str(read.line().facts)
    assert keys.refresh() is None


@pytest.mark.parametrize("damage", ["public nobody\n", "", None])
def test_a_damaged_empty_or_missing_file_shuts_nobody_out_and_is_told_once(folder: Path, damage: str | None) -> None:
    keys, path = source(folder, HYPERVISOR), folder / PUBLIC_FILE
    before, whole = keys.keyring, path.read_text()
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage)
    read = keys.refresh()
    assert read is not None
    assert read.problem
    assert (read.line().level, read.line().event) == ("error", "keys_unreadable")
    assert keys.refresh() is None
    assert keys.keyring is before
    path.write_text(whole)
    mended = keys.refresh()
    assert mended is not None
    assert not mended.problem
    assert keys.keyring == before


def test_an_exported_file_that_is_replaced_is_read_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "client.keys"
    client = Principal(KeyRole.CLIENT, "lp1")
    export_keys(folder, [client], out)
    keys = keys_of(out, KeyRole.CLIENT)
    assert keys is not None
    old = key_of(folder, LP1)
    rotate_key(folder, LP1)
    export_keys(folder, [client], out, replace=True)
    assert keys.refresh() is not None
    assert keys.keyring.server_keys("device", "") == (old, key_of(folder, LP1))


# Whom it still hears.


def test_a_connection_is_cast_out_with_its_key_and_no_other_is(folder: Path) -> None:
    keys = source(folder, HYPERVISOR)
    admission, nx0, lp1 = Admission(keys), key_of(folder, NX0), key_of(folder, LP1)
    admission.remember("fabric", b"nx0", nx0)
    admission.remember("hcall", b"lp1", lp1)
    revoke_keys(folder, NX0)
    read = keys.refresh()
    assert read is not None
    assert read.shut_out == {nx0}
    assert list(admission.shut_out()) == [("fabric", b"nx0")]
    assert list(admission.shut_out()) == []
    assert admission.sender("fabric", nx0) is None
    assert admission.sender("hcall", lp1) == LP1
    assert admission.is_outcast("fabric", b"nx0")
    assert not admission.is_outcast("hcall", b"lp1")


def test_a_connection_with_a_new_key_under_an_outcasts_routing_id_is_none(folder: Path) -> None:
    admission = Admission(source(folder, HYPERVISOR))
    admission.cast_out("fabric", b"nx0", key_of(folder, NX0))
    admission.remember("fabric", b"nx0", key_of(folder, NX0))
    assert not admission.is_outcast("fabric", b"nx0")


def test_the_table_of_connections_is_limited() -> None:
    admission = Admission(KeySource(Keyring(HYPERVISOR, make_pair(), {})))
    for number in range(CALLERS_LIMIT + 10):
        admission.remember("hcall", number.to_bytes(4, "big"), "key")
        admission.cast_out("fabric", number.to_bytes(4, "big"), "key")
    first, last = (0).to_bytes(4, "big"), (CALLERS_LIMIT + 9).to_bytes(4, "big")
    assert (admission.continues("hcall", first, "key"), admission.continues("hcall", last, "key")) == (False, True)
    assert (admission.is_outcast("fabric", first), admission.is_outcast("fabric", last)) == (False, True)


# The changes.


def test_while_a_key_is_being_changed_both_are_taken_and_then_the_new_one(folder: Path) -> None:
    old = key_of(folder, NX0)
    rotate_key(folder, NX0)
    new = key_of(folder, NX0)
    assert new != old
    assert load_keys(folder).public[NX0] == (old, new)
    assert secret_path(folder, NX0).stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeysError, match=r"being changed already: `vasbus keys revoke .* nx:nx0 --old`"):
        rotate_key(folder, NX0)
    assert retire_keys(folder, NX0) == 1
    assert load_keys(folder).public[NX0] == (new,)
    with pytest.raises(KeysError, match="one key, which is its present one"):
        retire_keys(folder, NX0)


def test_a_change_that_was_killed_in_between_is_undone_by_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, replace, done = key_of(folder, NX0), Path.replace, []

    def killed_at_the_second(path: Path, target: Path) -> Path:
        done.append(target)
        if len(done) == 2:
            raise OSError("killed")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed_at_the_second)
    with pytest.raises(OSError, match="killed"):
        rotate_key(folder, NX0)
    monkeypatch.undo()
    assert key_of(folder, NX0) == old
    assert old in load_keys(folder).public[NX0]
    assert retire_keys(folder, NX0) == 1
    assert load_keys(folder).public[NX0] == (old,)


def test_who_was_revoked_stays_out_until_init_makes_a_new_key(folder: Path) -> None:
    old = key_of(folder, NX0)
    others = {owner: keys for owner, keys in load_keys(folder).public.items() if owner != NX0}
    assert revoke_keys(folder, NX0) == 1
    assert load_keys(folder).public == others
    assert not secret_path(folder, NX0).exists()
    with pytest.raises(KeysError, match=r"has no key of nx:nx0; it has those of: .*nx:nx1"):
        revoke_keys(folder, NX0)
    assert init_keys(folder, EVERYBODY).new == (NX0,)
    assert key_of(folder, NX0) != old


def test_a_key_whose_secret_is_elsewhere_is_not_changed_here(folder: Path) -> None:
    secret_path(folder, NX0).unlink()
    before = (folder / PUBLIC_FILE).read_bytes()
    for change in (rotate_key, retire_keys):
        with pytest.raises(KeysError, match=r"cannot read the key file .*nx-nx0\.key"):
            change(folder, NX0)
    assert (folder / PUBLIC_FILE).read_bytes() == before


def test_the_commands_change_and_revoke_keys_and_export_again(folder: Path, tmp_path: Path) -> None:
    def keys(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["keys", *words])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    assert "Export the files of those it talks with again" in keys("rotate", str(folder), "nx:nx0")
    assert "the keys of nx:nx0 from before" in keys("revoke", str(folder), "nx:nx0", "--old")
    assert json.loads(keys("rotate", str(folder), "lpar:lp1", "--json")) == {"identity": "lpar:lp1", "rotated": True}
    assert json.loads(keys("revoke", str(folder), "lpar:lp1", "--json")) == {"identity": "lpar:lp1", "revoked": 2}
    out = str(tmp_path / "nx0.keys")
    keys("export", str(folder), "nx:nx0", out)
    keys("export", str(folder), "nx:nx0", out, "--replace")
    assert os.stat(out).st_mode & 0o777 == 0o600
