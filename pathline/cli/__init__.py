"""The command line: train, sample, info."""
