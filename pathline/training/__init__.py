"""Training: the matching loss, its times and weights, the loop, averaged weights, checkpoints."""
