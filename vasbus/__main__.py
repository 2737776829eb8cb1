"""`python -m vasbus` is the `vasbus` command. A process of a system starts without the other commands' modules."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command."""
    if sys.argv[1:2] != ["serve"]:
        from vasbus.command import main as whole

        whole()
        return
    from vasbus.interrupted import end_at_signals

    end_at_signals()
    from vasbus.endings import run
    from vasbus.serve_commands import alone

    run(alone())


if __name__ == "__main__":
    main()
