"""The options that a configuration may hold, as dataclasses."""
