"""Makes the environments that a configuration names."""
