"""Several processes as one run: each plays a share of the episodes and reads a share of the rows.

Knows torch.distributed, who is first, and which work is shared out. Knows nothing about Hydra, argv or how the
processes are started: `launch/ranks.py` does. May import the rest of `training` and whatever it may import.
"""
