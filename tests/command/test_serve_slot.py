"""`vasbus serve slot`: what it needs, said in one line where it is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from protocol.codes import ExitCode
from protocol.key_files import export_keys, init_keys
from protocol.keys import Principal, principals_of
from protocol.system import parse_system

PLAIN = '[[chip]]\nnumber = 0\nunit = "nx0"\ncores = 4\n[[lpar]]\nname = "lp1"\ncores = 2\n'
SLOTS = PLAIN + '[slots]\nname = "lpar"\ncount = 1\ncores = 1\n'
LISTEN, DIAL = "--listen=device=tcp://127.0.0.1:47100", "--dial=hcall=tcp://127.0.0.1:47001"


def said(folder: Path, system: str, *words: str) -> tuple[int, str]:
    """Exit code and output of the command, which ends by itself."""

    (folder / "system.toml").write_text(system)
    command = [sys.executable, "-m", "vasbus", "serve", "slot", "--system", str(folder / "system.toml"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [((DIAL,), "expected --listen device=ENDPOINT"), ((LISTEN,), "--dial hcall=ENDPOINT")],
    ids=["nowhere to listen", "nobody to dial"],
)
def test_each_link_has_to_be_placed(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    code, text = said(tmp_path, SLOTS, *words)
    assert code == 2
    assert expected in text


def test_a_system_without_slots_is_named(tmp_path: Path) -> None:
    code, text = said(tmp_path, PLAIN, LISTEN, DIAL)
    assert code == ExitCode.SETTINGS
    assert "expected the table [slots], which says what a slot has; there is none" in text


def test_another_key_than_the_enrolment_key_is_named(tmp_path: Path) -> None:
    init_keys(tmp_path / "keys", principals_of(parse_system(SLOTS, "system.toml")))
    export_keys(tmp_path / "keys", [Principal.parse("lpar:lp1")], tmp_path / "lp1.keys")
    code, text = said(tmp_path, SLOTS, LISTEN, DIAL, f"--keys={tmp_path / 'lp1.keys'}")
    assert code != 0
    assert "expected a secret key of enrol, there are those of: lpar:lp1" in text
