"""Language models: loaded, adapted, asked for answers, written down again.

Knows torch, transformers and peft. Knows nothing about TRL or the life of a run. May import `runs` and what lies below
it; `analysis` stands beside it.
"""
