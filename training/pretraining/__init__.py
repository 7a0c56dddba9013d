"""Pre-training: frames are collected, a network is fitted to them, an agent starts from it."""
