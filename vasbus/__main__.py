"""`python -m vasbus` is the `vasbus` command."""

from vasbus.command import main

main()
