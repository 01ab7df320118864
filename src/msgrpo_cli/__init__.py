"""msgrpo: post-train language models to act over many steps in text games (MS-GRPO, arXiv 2508.10839)."""

__version__ = "0.1.0"
