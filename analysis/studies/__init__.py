"""Studies: every arm on every task with every seed, run where there is room, and then compared."""
