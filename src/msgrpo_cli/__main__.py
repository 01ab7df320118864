"""`python -m msgrpo_cli` is `msgrpo`: a process that is the program's own from start to end."""

from msgrpo_cli.cli import app
from msgrpo_cli.common.importing import imports_stay


def main() -> None:
    imports_stay()
    app.main()


if __name__ == "__main__":
    main()
