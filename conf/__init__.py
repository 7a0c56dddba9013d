"""The configuration: YAML files with every default, and the checks a run must pass before it loads.

Nothing here imports torch, Gymnasium or numpy, so a wrong command line is refused at once.
"""
