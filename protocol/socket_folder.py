"""The folders of sockets in files: their mode is all that guards those."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from protocol.endpoint import IPC, is_abstract

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def folder_complaint(folder: Path) -> str | None:
    """Why no socket is to be in this folder, and what to do; None where it may, or there is no such folder (yet)."""
    try:
        status = folder.stat()
    except OSError:
        return None
    if status.st_uid != os.geteuid():
        advice = "use a folder of your own, or say --insecure if that user may do everything"
        return f"{folder} is the folder of user {status.st_uid}, and this is user {os.geteuid()}: {advice}"
    if status.st_mode & OTHERS:
        advice = f"`chmod 700 {folder}`, or use another folder, or say --insecure if everybody here may do everything"
        return (
            f"{folder} has mode {stat.S_IMODE(status.st_mode):04o}: expected 0700, as it guards the sockets: {advice}"
        )
    return None


def folders_complaint(endpoints: Iterable[str]) -> str | None:
    """The same for the folders of all endpoints that are in files."""
    files = (Path(endpoint.removeprefix(IPC)) for endpoint in endpoints if endpoint.startswith(IPC))
    complaints = (folder_complaint(file.parent) for file in files if not is_abstract(f"{IPC}{file}"))
    return next((complaint for complaint in complaints if complaint is not None), None)
