"""/sys/kernel/debug/vasbus: window lists, fault interrupts and files in the open. Linux has no such files."""

from __future__ import annotations

from collections.abc import Iterable

from lpar.driver import VasDriver
from lpar.fault_line import FaultLine
from lpar.sysfs import READ_ONLY, File, FileTree
from lpar.window import Window
from protocol.codes import WindowFlag

WINDOWS_PATH = "/sys/kernel/debug/vasbus/windows"
FAULTS_PATH = "/sys/kernel/debug/vasbus/faults"
FILES_PATH = "/sys/kernel/debug/vasbus/files"
HEADER = "order type window_id status pid descriptor"
FAULTS_HEADER = "window_id interrupt pid pending fetched"
FILES_HEADER = "mode path"
LISTING_LIMIT_CHARACTERS = 65_000
"""What one message can carry; lines that do not fit are only counted in a last line."""


def show_windows(driver: VasDriver) -> str:
    """A header, then one line per window of both types, newest first."""
    windows = [window for pool in driver.pools.values() for window in pool.newest_first()]
    windows.sort(key=lambda window: window.order, reverse=True)
    return listing(HEADER, map(window_line, windows), len(windows))


def show_faults(driver: VasDriver) -> str:
    """A header, then one line per window of the hypervisor that has had translation faults, newest window first."""
    lines = [line for line in driver.fault_lines if line.fetched or line.pending_faults]
    lines.sort(key=lambda line: line.window_id, reverse=True)
    return listing(FAULTS_HEADER, map(fault_line, lines), len(lines))


def show_files(files: FileTree) -> str:
    """A header, then one line per file of the partition, by path: its mode in octal and its path."""
    lines = [f"{file.mode:04o} {path}" for path, file in sorted(files.files.items())]
    return listing(FILES_HEADER, lines, len(lines))


def listing(header: str, lines: Iterable[str], count: int) -> str:
    """As many lines as one message can carry; the last one says how many are missing."""
    shown, room = [header], LISTING_LIMIT_CHARACTERS - len(header)
    for position, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            shown.append(f"# {count - position} more")
            break
        shown.append(line)
    return "\n".join(shown) + "\n"


def fault_line(line: FaultLine) -> str:
    """One window's fault interrupt: faults told of and not fetched, faults fetched since it was opened."""
    return f"{line.window_id} {line.interrupt} {line.pid} {line.pending_faults} {line.fetched}"


def window_line(window: Window) -> str:
    """One window; a closed descriptor whose mapping keeps the window is shown as `-`."""
    descriptor = "-" if window.descriptor is None else str(window.descriptor)
    kind = window.credit_type.name.lower()
    return f"{window.order} {kind} {window.window_id} {status_words(window.status)} {window.pid} {descriptor}"


def status_words(status: WindowFlag) -> str:
    """`active`, or why the window is closed."""
    flags = [flag.name.lower() for flag in WindowFlag if flag and flag in status and flag.name]
    return "|".join(flags) or "active"


def add_window_listing(files: FileTree, driver: VasDriver) -> None:
    files.add(WINDOWS_PATH, File(READ_ONLY, lambda: show_windows(driver)))


def add_fault_listing(files: FileTree, driver: VasDriver) -> None:
    files.add(FAULTS_PATH, File(READ_ONLY, lambda: show_faults(driver)))


def add_file_listing(files: FileTree) -> None:
    files.add(FILES_PATH, File(READ_ONLY, lambda: show_files(files)))
