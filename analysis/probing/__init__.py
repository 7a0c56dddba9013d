"""Probes: what a trained memory holds of the hidden state."""
