"""Environments: construction, seeding, wrappers, vectorisation, and small tasks.

Importing this package registers the tasks of `envs.tasks` with Gymnasium under `neurl/`, by name.
Their module is imported when the first task is made.
"""

from gymnasium.envs.registration import register, registry

# The classes of `envs.tasks.probes` and their default arguments, which are defined only here.
_TASKS: dict[str, dict[str, object]] = {
    "ConstantReward": {"continuous": False},
    "ObservationReward": {"continuous": False},
    "DelayedReward": {"continuous": False},
    "ActionReward": {"continuous": False},
    "ObservationActionReward": {"continuous": False},
    "ContinuousTarget": {},
    "Recall": {"length": 4, "continuous": False, "discrete_observation": False},
    "MemoryChain": {"memory_length": 10, "num_bits": 1},
    "Counting": {"lengths": [3, 5, 2], "ending": "terminated", "offset": 0, "continuous": False},
    "Endless": {"limit": 10, "ending": "truncated", "continuous": False},
}

for _name, _kwargs in _TASKS.items():
    if f"neurl/{_name}-v0" not in registry:  # a reload must not warn about overriding
        register(id=f"neurl/{_name}-v0", entry_point=f"envs.tasks.probes:{_name}", kwargs=_kwargs)
