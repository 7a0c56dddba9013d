"""Environments: construction, seeding, wrappers, vectorisation, and small tasks.

Importing this package registers the tasks of `envs.tasks` with Gymnasium under `neurl/`, by name.
Their module is imported when the first task is made.
"""

from gymnasium.envs.registration import register, registry

# Here alone are the default arguments of all tasks.
_CHAIN = {"memory_length": 10, "num_bits": 1}

# Natively vectorised: the class, its default arguments, and the limit of steps.
_REPEAT = {"length": 20, "span": 4, "symbols": 4, "pictures": False}
MEMORY_TASKS: dict[str, tuple[str, dict[str, object], int | None]] = {
    "TMaze": ("mazes:TMaze", {"length": 10}, 1_000),
    "PassiveTMaze": ("mazes:TimedTMaze", {"length": 10, "oracle_distance": 0}, None),
    "ActiveTMaze": ("mazes:TimedTMaze", {"length": 10, "oracle_distance": 1}, None),
    "KeyToDoor": ("mazes:KeyToDoor", {"distance": 3}, None),
    "RepeatPrevious": ("recall:Repeat", {**_REPEAT, "order": "previous"}, None),
    "RepeatFirst": ("recall:Repeat", {**_REPEAT, "order": "first"}, None),
    "RepeatFirstPicture": ("recall:Repeat", {**_REPEAT, "order": "first", "pictures": True}, None),
    "Autoencode": ("recall:Repeat", {**_REPEAT, "order": "backwards", "length": 8}, None),
    "HiddenArm": ("recall:HiddenArm", {"arms": 4, "pulls": 10}, None),
    "RockSample": ("classical:RockSample", {"size": 5, "rocks": 5, "layout": 0}, 200),
    "Battleship": ("classical:Battleship", {"size": 10, "ships": [5, 4, 3, 2]}, 200),
}

if "neurl/MemoryChain-v0" not in registry:  # a reload must not warn about overriding
    register(
        "neurl/MemoryChain-v0", entry_point=f"{__name__}.tasks.chain:MemoryChain", kwargs=_CHAIN
    )

for _name, (_class, _kwargs, _limit) in MEMORY_TASKS.items():
    if f"neurl/{_name}-v0" not in registry:
        register(
            id=f"neurl/{_name}-v0",
            entry_point=f"{__name__}.tasks.vector:SingleTask",
            vector_entry_point=f"{__name__}.tasks.vector:make_vector",
            max_episode_steps=_limit,
            kwargs={"task": f"{__name__}.tasks.{_class}", **_kwargs},
        )
