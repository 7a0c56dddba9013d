"""Collecting the stream and the one loop that learns from it."""
