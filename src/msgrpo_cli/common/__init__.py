"""What any program needs: whole files, rows, locks, signals, text, numbers, statistics, keyed randomness.

Knows bytes, text, clocks and numbers. Knows no config, game, model or run: it could be published alone. May import
nothing of ours but `errors`. Does without torch, but for `memory`, which asks for its counters.
"""
