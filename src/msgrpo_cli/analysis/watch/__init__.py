"""A run that goes on, or has ended, as one screen.

Knows the files that a run is still writing. Knows neither models nor games. May import the rest of `analysis`, `runs`
and what lies below it. Does without torch.
"""
