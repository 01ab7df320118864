"""Scores: a policy plays given starts, beside reference players, a base, a server.

Knows policies, starts and scores. Knows nothing about TRL or how a policy was trained. May import `models`, `analysis`
and what lies below them; `planning` stands beside it.
"""
