"""Reports of a comparison: one page with its figures, Markdown, CSV, and TensorBoard."""
