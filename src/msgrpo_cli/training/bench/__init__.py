"""Measurements on a real trainer: what a phase costs, how soon it learns, what credit is worth.

Knows trainers, bare models and clocks. Knows nothing about how figures are shown. May import the rest of `training` and
what lies below it.
"""
