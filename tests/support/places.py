"""Where the checkout lies, for tests of files that the package does not hold."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

EXTRAS = {"textarena": "textarena", "openspiel": "pyspiel", "openspiel_seats": "pyspiel"}
"""Games that need an extra of the same name, and the module that it brings."""
