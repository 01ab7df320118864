"""From words and files to one frozen RunConfig, and every mistake on the way in one line.

Knows keys, types, Hydra and TRL's field names. Knows no model in memory and no run directory. May import `rollout`,
`games`, `algo` and what lies below them. Does without torch.
"""
