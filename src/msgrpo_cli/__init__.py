"""msgrpo: post-train language models to act over many steps in text games (MS-GRPO, arXiv 2508.10839).

Knows its version and which names are for notebooks and scripts: `train`, `evaluate` and the errors they raise.
"""

import sys
from types import ModuleType
from typing import Any

from .errors import RunError, UsageError
from .notebook import evaluate, train

__version__ = "0.1.0"
__all__ = ["RunError", "UsageError", "evaluate", "train"]


class _Package(ModuleType):
    """Keeps `train` and `evaluate` the functions.

    Importing a submodule sets it as an attribute of its package, so the modules `msgrpo_cli.train` and
    `msgrpo_cli.evaluate`, once some code has imported them, would take the functions' places. The modules themselves
    are found as ever: by `from msgrpo_cli.train import ...` and by pickle.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in ("train", "evaluate") and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
