"""Replay: the stream is stored once and drawn in windows."""
