"""What goes into the loss of one update and comes out of it: micro-batches, log-probabilities, the gap, the metrics.

Knows tensors and TRL's names for them. Knows nothing about games, files, or the life of a run. May import
`training.parallel.ranks`, and whatever lies below `training`.
"""
