"""What lies on disk: runs, checkpoints, base models, sweeps, their records, and how they are gone on with.

Knows files. Loads no weights and plays no game. May import `config` and what lies below it. Does without torch.
"""
