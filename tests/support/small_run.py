"""A run of three updates that takes seconds."""

SMALL = [
    "experiment=smoke",
    "max_updates=3",
    "algo.groups_per_update=2",
    "algo.group_size=4",
    "eval.episodes=24",
    "eval.every=2",
    "save.every=1",
    "save.keep_last=2",
]
