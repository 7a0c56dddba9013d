"""The configuration: YAML files with every default, and the checks a run must pass before it loads.

Nothing in this package imports torch, Gymnasium or numpy: a wrong command line is refused at once.
"""
