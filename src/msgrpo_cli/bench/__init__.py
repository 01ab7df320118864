"""Benchmarks: what a phase costs beside what the bare model needs for the same tokens, side by side in one process.

Imports nothing: `rollout`, `update` and `learn` are the three benchmarks, `limit` is what they are held against.
"""
