"""A run: TRL's trainer on rows of our episodes, what it records, how it ends.

Knows TRL and how a run lives; it is the only package that may import trl. Knows neither Hydra nor the command line. May
import `evaluation`, `planning` and what lies below them. Several processes will have their place here, in `parallel`.
"""
