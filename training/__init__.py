"""Training: builds objects from the configuration, collects, learns, evaluates, tracks, saves."""
