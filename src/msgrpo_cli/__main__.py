"""`python -m msgrpo_cli` is `msgrpo`."""

from msgrpo_cli.cli.app import main

main()
