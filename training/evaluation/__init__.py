"""Evaluation, policies restored from runs, videos."""
