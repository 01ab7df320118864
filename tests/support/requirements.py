"""Requirements made from pyproject.toml: `lowest`, every lower bound as a constraint, or `light`, what needs no torch.

Knows pyproject.toml. Knows nothing about what is installed. torch is left out: it comes as pinned.
"""

import re
import sys
import tomllib
from pathlib import Path

NEED_TORCH = {"torch", "transformers", "trl", "accelerate", "peft", "datasets"}  # as in conftest.py
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAIRS = [re.fullmatch(r"([\w-]+)>=([\d.]+).*", text).groups() for text in PROJECT["dependencies"]]

KINDS = {
    "lowest": [f"{name}=={lowest}" for name, lowest in PAIRS if name != "torch"],
    "light": [name for name, _ in PAIRS if name not in NEED_TORCH]
    + ["hypothesis", "jsonschema", "pytest", "pytest-xdist"],
}
print("\n".join(KINDS[sys.argv[1]]))
