"""What a configuration must fulfil before anything is built from it."""
