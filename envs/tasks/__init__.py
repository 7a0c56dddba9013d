"""Small environments with known optimal scores, registered under `neurl/`."""
