"""The checks of a configuration before anything is built from it."""
