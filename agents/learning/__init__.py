"""What agents learn with: gradient steps, optimizers, targets, sequences."""
