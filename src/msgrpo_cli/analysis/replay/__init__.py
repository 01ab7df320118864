"""Episodes that were played, step by step: chosen, shown in a terminal, written as a page.

Knows rows of episodes.jsonl. Knows neither models nor games. May import the rest of `analysis`, `runs` and what lies
below it. Does without torch.
"""
