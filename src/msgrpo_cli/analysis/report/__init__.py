"""What several runs say together: groups, scores, intervals, curves, costs, one page.

Knows the records of runs and statistics. Knows neither models nor games. May import the rest of `analysis`, `runs` and
what lies below it. Does without torch.
"""
