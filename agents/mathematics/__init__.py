"""Returns, targets and losses: pure functions of tensors."""
