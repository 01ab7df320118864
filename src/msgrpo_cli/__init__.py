"""msgrpo: post-train language models to act over many steps in text games (MS-GRPO, arXiv 2508.10839).

Knows its version and which names are for notebooks and scripts: `train`, `evaluate` and the errors they raise. The map
of the packages below is docs/architecture.md.
"""

from msgrpo_cli._version import __version__
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.notebook import evaluate, train

__all__ = ["RunError", "UsageError", "__version__", "evaluate", "train"]
