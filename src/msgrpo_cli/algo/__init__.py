"""The method: rewards to advantages, advantages to drawn episodes, episodes to rows and micro-batches.

Knows rewards and episodes, as arrays. Knows nothing about games, tokenizers, models or files. May import `episode`,
`common` and `errors`. Does without torch.
"""
