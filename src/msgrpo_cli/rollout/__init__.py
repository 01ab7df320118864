"""A policy plays games: prompts, decisions, episodes, and one rollout phase with its credit.

Knows games, prompts and the `Policy` protocol. Knows nothing about models, configs or files. May import `games`,
`algo`, `episode`, `common` and `errors`. Does without torch.
"""
