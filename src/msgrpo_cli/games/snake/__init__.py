"""Snake: its rules, its board, what its texts state, who plays it.

Knows one game. Knows nothing about other games, configs, tokens or models. May import the rest of `games`, `common` and
`errors`. Does without torch.
"""
