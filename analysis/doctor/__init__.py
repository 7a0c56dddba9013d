"""The doctor: checks an environment and networks before they train."""
