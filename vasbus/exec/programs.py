"""The two tables of commands: another command is another line."""

from __future__ import annotations

from vasbus.exec.chhwres import chhwres
from vasbus.exec.drmgr import drmgr
from vasbus.exec.files import cat, ls
from vasbus.exec.lshwres import lshwres
from vasbus.exec.migrlpar import migrlpar
from vasbus.exec.nxstat import nxstat
from vasbus.exec.program import OnConsole, OnPartition, Program

ON_PARTITION: dict[str, Program[OnPartition]] = {
    "cat": Program("FILE...", cat),
    "drmgr": Program("-c {cpu | acc} ...", drmgr),
    "ls": Program("[-l] [FOLDER...]", ls),
    "nxstat": Program("[-AUTW]", nxstat),
}
"""`vasbus lpar exec NAME -- ...`"""

ON_CONSOLE: dict[str, Program[OnConsole]] = {
    "chhwres": Program("-r {accel | proc} -m SYSTEM -o {a | r | s} -p PARTITION ...", chhwres),
    "lshwres": Program("-r {accel | proc} -m SYSTEM --level {sys | lpar} [-F [ATTRIBUTES]]", lshwres),
    "migrlpar": Program("-o {m | v} -m SYSTEM -t SYSTEM -p PARTITION [-w MINUTES]", migrlpar),
}
"""`vasbus hmc exec -- ...`"""
