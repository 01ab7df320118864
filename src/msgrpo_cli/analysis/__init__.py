"""Reads runs: reports, comparisons, replays, lists, curves, a run that is watched.

Knows runs on disk, rich, Jinja and matplotlib. Knows neither models nor games. May import `runs` and what lies below
it; `models` stands beside it. Does without torch.
"""
