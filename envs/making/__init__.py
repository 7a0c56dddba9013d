"""Makes environments from a configuration."""
