"""Where the checkout lies, for tests of files that the package does not hold."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

EXTRAS = {
    "babyai": "minigrid",
    "openspiel": "pyspiel",
    "openspiel_seats": "pyspiel",
    "textarena": "textarena",
    "textarena_seats": "textarena",
}
"""Games that need an extra, and the module that it brings."""
