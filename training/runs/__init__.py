"""The life of a run: begin, train, resume, summarise."""
