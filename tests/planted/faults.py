"""The list: a sign, a mask, a shift, a missing reset, ... in every part that learning rests on.

What is planted changes what is learnt, seen or drawn, and nothing else would tell: a program that
breaks by itself is no fault for this list, nor is one that computes the same in another way.
"""

from tests.planted.in_agents import FAULTS as IN_AGENTS
from tests.planted.in_analysis import FAULTS as IN_ANALYSIS
from tests.planted.in_environments import FAULTS as IN_ENVIRONMENTS
from tests.planted.in_learning import FAULTS as IN_LEARNING
from tests.planted.in_masks import FAULTS as IN_MASKS
from tests.planted.in_memories import FAULTS as IN_MEMORIES
from tests.planted.in_networks import FAULTS as IN_NETWORKS
from tests.planted.in_replay import FAULTS as IN_REPLAY
from tests.planted.in_runs import FAULTS as IN_RUNS

FAULTS = [
    *IN_AGENTS,
    *IN_LEARNING,
    *IN_REPLAY,
    *IN_NETWORKS,
    *IN_MASKS,
    *IN_MEMORIES,
    *IN_ENVIRONMENTS,
    *IN_RUNS,
    *IN_ANALYSIS,
]
