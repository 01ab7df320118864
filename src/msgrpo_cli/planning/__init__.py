"""What a run would take, before it is launched: memory, decisions, hours, disk; and what a model would read.

Knows shapes, data sheets and play without a model. Loads no weights. May import `models`, `analysis` and what lies
below them; `evaluation` stands beside it. Imports torch only inside functions.
"""
