"""Builds objects from a checked configuration."""
