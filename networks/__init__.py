"""Networks: input scaling, extractors, memories, heads and distributions.

Imports no other part of the project.
"""
