"""Where the checkout lies, for tests of files that the package does not hold."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
