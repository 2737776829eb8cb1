"""`python -m vasbus` is the `vasbus` command. `serve` and `health` start without the other commands' modules."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command."""
    if sys.argv[1:2] == ["health"]:
        from vasbus.interrupted import end_command_at_signals

        end_command_at_signals(sys.argv[1:])
        from vasbus.health.main import main as health

        sys.exit(health(sys.argv[2:]))
    if sys.argv[1:2] != ["serve"]:
        _run_command()
        return
    from vasbus.interrupted import end_at_signals

    end_at_signals()
    from vasbus.endings import run
    from vasbus.serve_commands import alone

    run(alone())


def _run_command() -> None:
    from vasbus import interrupted

    interrupted.end_command_at_signals(sys.argv[1:])
    from vasbus.command import main as whole

    try:
        interrupted.interrupt_from_here_on()
        whole()
    except KeyboardInterrupt:
        sys.exit(interrupted.INTERRUPTED)
    finally:
        interrupted.end_silently_from_here_on()


if __name__ == "__main__":
    main()
