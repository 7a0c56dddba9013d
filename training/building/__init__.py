"""From a checked configuration to live objects."""
