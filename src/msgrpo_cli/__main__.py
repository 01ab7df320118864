"""`python -m msgrpo_cli` is `msgrpo`."""

from .cli import main

main()
