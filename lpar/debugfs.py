"""/sys/kernel/debug/vasbus/windows: the driver's lists in the open. Linux has no such file."""

from __future__ import annotations

from lpar.driver import VasDriver
from lpar.sysfs import READ_ONLY, File, FileTree
from lpar.window import Window
from protocol.codes import WindowFlag

WINDOWS_PATH = "/sys/kernel/debug/vasbus/windows"
HEADER = "order type window_id status pid descriptor"
LISTING_LIMIT_CHARACTERS = 65_000
"""What one message can carry; older windows that do not fit are only counted in a last line."""


def show_windows(driver: VasDriver) -> str:
    """A header, then one line per window of both types, newest first."""
    windows = [window for pool in driver.pools.values() for window in pool.newest_first()]
    windows.sort(key=lambda window: window.order, reverse=True)
    lines, room = [HEADER], LISTING_LIMIT_CHARACTERS - len(HEADER)
    for shown, window in enumerate(windows):
        line = window_line(window)
        room -= len(line) + 1
        if room < 0:
            lines.append(f"# {len(windows) - shown} more")
            break
        lines.append(line)
    return "\n".join(lines) + "\n"


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
