"""`vasbus keys deal`: a file for each process, as often as one likes; and keys on standard output."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from protocol.codes import ExitCode
from protocol.key_files import export_keys, init_keys, load_keys
from protocol.keys import KeysError, Principal, principals_of
from protocol.system import parse_system
from tests.security.system import SYSTEM
from vasbus.command import app
from vasbus.keys_deal import Dealt, deal_keys, parse_targets

EVERYBODY = principals_of(parse_system(SYSTEM, "secured.toml"))
OWNERS = {"hypervisor": "hypervisor,observer", "nx0": "nx:nx0", "lp1": "lpar:lp1,client:lp1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A key folder with the keys of the system, and a folder for each process beside it."""
    init_keys(tmp_path / "keys", EVERYBODY)
    for name in OWNERS:
        (tmp_path / name).mkdir()
    return tmp_path / "keys"


def words(folder: Path) -> list[str]:
    return [f"{owners}={folder.parent / name / 'own.keys'}" for name, owners in OWNERS.items()]


def deal(folder: Path) -> Dealt:
    return deal_keys(folder, parse_targets(words(folder)))


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Text, inode and mode of each dealt file."""
    files = {name: folder.parent / name / "own.keys" for name in OWNERS}
    return {name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mode & 0o777) for name, path in files.items()}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments], env={"VASBUS_KEYS": ""})


def test_each_process_gets_what_export_would_give_it(folder: Path, tmp_path: Path) -> None:
    dealt = deal(folder)
    assert (len(dealt.written), dealt.kept) == (3, ())
    for name, owners in OWNERS.items():
        export_keys(
            folder, [Principal.parse(owner) for owner in owners.split(",")], tmp_path / "exported", replace=True
        )
        assert (tmp_path / name / "own.keys").read_text() == (tmp_path / "exported").read_text()
        assert set(map(str, load_keys(tmp_path / name / "own.keys").own)) == set(owners.split(","))
    assert {mode for _text, _inode, mode in state(folder).values()} == {0o600}


def test_a_second_deal_touches_nothing(folder: Path) -> None:
    deal(folder)
    before = state(folder)
    dealt = deal(folder)
    assert (dealt.written, len(dealt.kept)) == ((), 3)
    assert state(folder) == before
    assert [path.name for path in folder.parent.rglob(".own*")] == []


def test_what_is_out_of_date_is_replaced_and_the_rest_left_alone(folder: Path) -> None:
    deal(folder)
    before = state(folder)
    assert run("rotate", str(folder), "lpar:lp1").exit_code == 0
    dealt = deal(folder)
    assert {path.parent.name for path in dealt.written} == {"hypervisor", "lp1"}
    after = state(folder)
    assert after["nx0"] == before["nx0"]
    new = load_keys(folder).own[Principal.parse("lpar:lp1")].public
    assert all(new.encode() in after[name][0] for name in ("hypervisor", "lp1"))


def test_a_file_that_others_may_read_is_made_anew(folder: Path) -> None:
    deal(folder)
    (folder.parent / "nx0" / "own.keys").chmod(0o644)
    assert [path.parent.name for path in deal(folder).written] == ["nx0"]
    assert state(folder)["nx0"][2] == 0o600


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("my diary", "line 1.*left as it is"), ("\udcff", "cannot read .*left as it is"), (None, "has the keys of chaos")],
)
def test_what_is_no_key_file_of_theirs_is_left_and_nothing_else_is_written(
    folder: Path, text: str | None, complaint: str
) -> None:
    precious = folder.parent / "lp1" / "own.keys"
    if text is None:
        export_keys(folder, [Principal.parse("chaos")], precious)
    else:
        precious.write_bytes(text.encode(errors="surrogateescape"))
    before = precious.read_bytes()
    with pytest.raises(KeysError, match=complaint):
        deal(folder)
    assert precious.read_bytes() == before
    assert not (folder.parent / "nx0" / "own.keys").exists()


@pytest.mark.parametrize(
    ("targets", "complaint"),
    [
        (["lpar:lp1"], "expected OWNERS=FILE"), (["lpar:lp1="], "expected OWNERS=FILE"), (["boss=x"], "came 'boss'"),
        (["hmc=x", "observer=x"], "x came twice"), (["lpar:lp9=x"], "expected a secret key of lpar:lp9"),
    ],
)  # fmt: skip
def test_targets_that_make_no_sense_are_told(folder: Path, targets: list[str], complaint: str) -> None:
    done = run("deal", str(folder), *targets)
    assert isinstance(done.exception, KeysError)
    assert re.search(complaint, str(done.exception))


def test_a_target_that_cannot_be_written_is_one_clear_error(folder: Path) -> None:
    nowhere = folder.parent / "absent" / "own.keys"
    with pytest.raises(KeysError) as refused:
        deal_keys(folder, parse_targets([f"nx:nx0={nowhere}"]))
    assert f"cannot write {nowhere} for nx:nx0: No such file or directory" in str(refused.value)
    with pytest.raises(KeysError, match=r"cannot read .*Is a directory"):
        deal_keys(folder, parse_targets([f"nx:nx0={folder.parent}"]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_another_user_is_told(folder: Path) -> None:
    (folder.parent / "nx0").chmod(0o500)
    with pytest.raises(KeysError, match="Permission denied; expected a folder that this user may write to"):
        deal(folder)


def test_the_command_makes_missing_keys_first_and_tells_what_it_did(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(SYSTEM)
    fresh = tmp_path / "fresh"
    command = ["deal", str(fresh), *words(folder), "--system", str(tmp_path / "system.toml")]
    first = run(*command)
    assert (first.exit_code, first.output) == (
        0,
        f"made {len(EVERYBODY)} keys; 3 key files written, 0 were up to date\n",
    )
    assert run(*command).output == "0 key files written, 3 were up to date\n"
    files = [str(tmp_path / name / "own.keys") for name in OWNERS]
    assert json.loads(run(*command, "--json").stdout) == {"made": 0, "written": [], "kept": files}
    before = state(folder)
    assert "cannot read the key file" in str(run("deal", str(tmp_path / "none"), *words(folder)).exception)
    assert state(folder) == before


def test_keys_are_exported_to_standard_output_and_nothing_else_is(folder: Path, tmp_path: Path) -> None:
    export_keys(folder, [Principal.parse("observer"), Principal.parse("client:lp1")], tmp_path / "exported")
    done = run("export", str(folder), "observer,client:lp1", "-")
    assert (done.exit_code, done.stdout, done.stderr) == (0, (tmp_path / "exported").read_text(), "")
    assert not Path("-").exists()
    assert run("export", str(folder), "observer", "-", "--json").exit_code == ExitCode.USAGE
