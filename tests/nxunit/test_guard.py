"""The lock of a unit's process: who has it, and what having it proves."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nxunit.guard import GuardHeld, lock_path, take_guard

HOLDER = """
import sys
from pathlib import Path
from nxunit.guard import take_guard
guard = take_guard(Path(sys.argv[1]))
print(guard.name.hex(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nx0.paste.lock"


def name_of(path: Path) -> bytes:
    """The guard's name, taken and given back."""
    guard = take_guard(path)
    guard.release()
    return guard.name


def test_the_next_holder_of_a_lock_has_the_same_guard(path: Path) -> None:
    assert name_of(path) == name_of(path)


def test_units_have_guards_of_their_own(path: Path) -> None:
    assert name_of(path) != name_of(path.with_name("nx1.paste.lock"))


def test_one_process_at_a_time_has_it(path: Path) -> None:
    guard = take_guard(path)
    with pytest.raises(GuardHeld, match=r"another process serves this unit.*nx0\.paste\.lock"):
        take_guard(path)
    guard.release()
    assert name_of(path) == guard.name


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_process_keeps_it_and_a_dead_one_does_not(path: Path, end: signal.Signals) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        name = bytes.fromhex(holder.stdout.readline())
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(GuardHeld):
            take_guard(path)
        holder.send_signal(signal.SIGCONT)
        holder.send_signal(end)
        holder.wait(30)
        assert name_of(path) == name
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_whose_file_was_removed_proves_nothing_about_its_holder(path: Path) -> None:
    old = take_guard(path)
    path.unlink()
    new = take_guard(path)
    assert new.name != old.name, "both are alive"
    old.release()
    new.release()


def test_a_file_that_is_removed_while_it_is_being_locked_is_not_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removals, flock = [path], fcntl.flock

    def removed_meanwhile(descriptor: int, operation: int) -> None:
        for each in removals:
            each.unlink()
        removals.clear()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    guard = take_guard(path)
    with pytest.raises(GuardHeld):
        take_guard(path)
    guard.release()


def test_a_link_in_place_of_the_file_is_refused(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        take_guard(path)
    assert not os.path.lexists(tmp_path / "elsewhere")


def test_the_lock_is_beside_the_socket_or_in_the_folder_that_is_named_for_it(tmp_path: Path) -> None:
    tcp = "tcp://127.0.0.1:5555"
    assert lock_path("ipc:///run/x/nx0.paste", "nx0", tmp_path) == Path("/run/x/nx0.paste.lock")
    assert lock_path(tcp, "nx0", tmp_path) == tmp_path / "nx0.paste.lock"
    assert lock_path(tcp, "nx0", None) is None, "a process elsewhere could not be told from one that has ended"
