"""Pre-training: collect frames, fit a network to them, start an agent from it."""
