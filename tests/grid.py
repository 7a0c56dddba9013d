"""The grid of choices: what combines, what is refused and how, and a small run of each.

`tests/test_grid.py` trains it, `tests/support.py` writes it down in the documentation. What only
some agents have (`PARTS`) is left as it is for the others.
"""

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register, registry

PARTS: dict[str, list[str]] = {
    "double_q": ["false", "true"],
    "n_step": ["1", "3"],
    "dueling": ["false", "true"],
    "noisy": ["false", "true"],
    "prioritized": ["false", "true"],
    "burn_in": ["0", "2"],
    "stored_state": ["true", "false"],
    "value_rescaling": ["false", "true"],
}
"""Keys of some agents, first as they are without being asked for."""

CHOICES: dict[str, list[str]] = {
    "agent": ["ppo", "a2c", "dqn", "pqn", "ddpg", "td3", "sac"],
    "extractor": [
        "flatten", "mlp", "dict", "cnn", "nature_cnn", "impala_cnn", "autoencoder", "vae",
    ],
    "auxiliary": ["none", "reconstruction", "vae", "next_latent", "sac_ae", "lambda_discrepancy"],
    "freeze": ["false", "true", "16"],
    "memory": ["none", "rnn", "gru", "lstm", "mingru", "lru", "mlstm", "gtrxl"],
    "share_backbone": ["false", "true"],
    "critic_observation": ["same", "full"],
    "actions": ["discrete", "box", "finite box", "choices", "bits"],
    "observations": [
        "box", "discrete", "choices", "bits", "parts", "nested", "camera",
        "image hwc", "image chw", "codes grid", "truth grid", "stack",
    ],
    "value_head": ["mse", "huber", "two_hot", "hl_gauss", "c51", "quantile"],
    "normalize_observations": ["false", "true"],
    "normalize_rewards": ["false", "true"],
    "optimizer": ["adam", "adamw", "radam", "rmsprop", "rmsprop_tf", "sgd"],
    "precision": ["float32", "bf16"],
    "vectors": ["plain", "previous inputs"],
    **PARTS,
}  # fmt: skip
"""Every axis with its choices; `tests/test_grid.py` trains every pair of them."""

NETWORKS: dict[str, dict[str, str]] = {
    "`flatten`": {"extractor": "flatten"},
    "`mlp`": {"extractor": "mlp"},
    "`cnn`": {"extractor": "cnn"},
    "`nature_cnn`": {"extractor": "nature_cnn"},
    "`impala_cnn`": {"extractor": "impala_cnn"},
    "`dict`": {"extractor": "dict"},
    "`autoencoder`": {"extractor": "autoencoder", "freeze": "true"},
    "`vae`": {"extractor": "vae", "freeze": "true"},
    "`cnn` with `auxiliary=reconstruction`": {"extractor": "cnn", "auxiliary": "reconstruction"},
    "`cnn` with `auxiliary=vae`": {"extractor": "cnn", "auxiliary": "vae"},
    "`cnn` with `auxiliary=next_latent`": {"extractor": "cnn", "auxiliary": "next_latent"},
}
"""Extractors as they are used, of the whole product with memories, agents and actions."""

VECTOR, CODE = spaces.Box(-2, 2, (3,)), spaces.Discrete(5, start=1)
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": VECTOR,
    "discrete": CODE,
    "choices": spaces.MultiDiscrete([2, 3], start=[0, -1]),
    "bits": spaces.MultiBinary((2, 2)),
    "parts": spaces.Dict([("type", VECTOR), ("code", CODE)]),
    "nested": spaces.Tuple(
        [spaces.Box(-9, 9, (2, 2), np.float64), spaces.Dict(code=CODE, bits=spaces.MultiBinary(2))]
    ),
    "image of 4x4": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "image of 9x9": spaces.Box(0, 255, (9, 9, 3), np.uint8),
    "image of 9x9x9": spaces.Box(0, 255, (9, 9, 9), np.uint8),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3, start=-1),
    "box": spaces.Box(np.float32([[-3, 0]]), np.float32([[1, np.inf]])),
    "finite box": spaces.Box(np.float32([[-3, 0]]), np.float32([[1, 2]])),
    "choices": spaces.MultiDiscrete([[2, 3, 2]], start=[[1, 0, -5]]),
    "bits": spaces.MultiBinary((2, 2)),
}
WITH_PARTS = ("parts", "nested", "camera")
IMAGES = ("image hwc", "image chw", "codes grid", "truth grid", "stack", "image of 9x9")
MISREAD = ("image of 4x4", "image of 9x9x9")
IMAGE_EXTRACTORS = ("cnn", "nature_cnn", "impala_cnn")
DISTRIBUTIONS = ("c51", "quantile")
BOXES = ("box", "finite box")
CRITICISING = ("ddpg", "td3", "sac")
"""Agents whose critics read actions."""
ALSO_OF_PQN = ("dueling",)
OF_WINDOWS = ("n_step", "prioritized", "burn_in", "stored_state")
"""Parts that read what is replayed; the others stand behind its summary."""
AUTOENCODERS = ("autoencoder", "vae")
Combination = dict[str, str]
Pair = tuple[tuple[str, str], tuple[str, str]]


def space_of(observations: str, size: int) -> spaces.Space[Any]:
    """Images have so many pixels per side, where their name does not say it."""
    images: dict[str, spaces.Space[Any]] = {
        "image hwc": spaces.Box(0, 255, (size, size, 3), np.uint8),
        "image chw": spaces.Box(0, 1, (2, size, size)),
        "codes grid": spaces.MultiDiscrete(np.full((size, size, 2), [3, 2])),
        "truth grid": spaces.Box(0, 1, (size, size, 2), np.bool_),
        "stack": spaces.Box(0, 255, (size, size), np.uint8),
    }
    images["camera"] = spaces.Dict([("camera", images["image hwc"]), ("speed", VECTOR)])
    return images[observations] if observations in images else OBSERVATIONS[observations]


class Anything(gymnasium.Env[Any, Any]):
    """Random observations, rewards and ends, in the spaces asked for."""

    def __init__(self, *, observations: str, actions: str, size: int = 6) -> None:
        self.observation_space = copy.deepcopy(space_of(observations, size))
        self.full_observation_space = spaces.Dict(seen=self.observation_space, at=CODE)
        self.action_space = ACTIONS[actions]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self._shown(), {}

    def _shown(self) -> Any:
        self._latest = self.observation_space.sample()
        return self._latest

    def full_observation(self) -> Any:
        return {"seen": self._latest, "at": CODE.start}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        reward, ended, cut = self.np_random.normal(), *(self.np_random.random(2) < 0.15)
        return self._shown(), float(reward), bool(ended), bool(cut), {}


ID = "test/Anything-v0"


@contextmanager
def registered() -> Iterator[None]:
    """Let runs make the environment by its id."""
    register(ID, entry_point=Anything, disable_env_checker=True)
    yield
    del registry[ID]


# ---- what is refused


def refusal(combination: Combination) -> str | None:
    """Return a pattern of the line that refuses a combination; None where it is legal.

    A choice that is not made yet may still be the right one.
    """
    if "agent" not in combination:
        found = [refusal({**combination, "agent": agent}) for agent in CHOICES["agent"]]
        return None if None in found else found[0]
    rules = (
        _of_policy_heads,
        _of_foreign_parts,
        _of_distributions,
        _of_action_values,
        _of_critics,
        _of_no_memory,
        _of_two_lambdas,
        _of_privilege,
        _with_nothing_to_train,
        _by_part,
        _of_no_image,
        _of_misread_images,
    )
    return next((pattern for rule in rules if (pattern := rule(combination))), None)


def label(combination: Combination) -> str:
    """Name a combination by its choices, and by the parts that were asked for."""
    chosen = [option for name, option in combination.items() if name not in PARTS]
    return "-".join([*chosen, *parts_of(combination)])


def parts_of(combination: Combination) -> list[str]:
    """Name the parts that were asked for."""
    return [name for name, (usual, *_) in PARTS.items() if combination.get(name, usual) != usual]


def _of_foreign_parts(combination: Combination) -> str | None:
    for name in parts_of(combination):
        owners = "DQN has"
        if name in ALSO_OF_PQN:
            owners = "DQN, PQN have"
        elif name in OF_WINDOWS:
            owners = "DQN, DDPG, TD3, SAC have"
            owners = f"Cloning, {owners}" if name in ("burn_in", "stored_state") else owners
        if combination["agent"].upper() not in owners:
            return rf"^agent\.{name}: unknown key; only {owners} it$"
    return None


def _of_policy_heads(combination: Combination) -> str | None:
    """Only `auto` fits every agent; `support` tells of the others."""
    head, agent = combination.get("policy_head", "auto"), combination["agent"]
    if head == "auto":
        return None
    if agent in ("dqn", "pqn"):
        return r"^policy_head: expected auto, because \w+ has values of actions for a policy$"
    if head == "deterministic" and agent not in ("ddpg", "td3"):
        return r"^policy_head: expected auto, .* because agent=\w+ learns from log-probabilities"
    own = {"sac": "squashed_gaussian", "ddpg": "deterministic", "td3": "deterministic"}
    if head not in ("categorical", own.get(agent, head)):
        return rf"^policy_head: expected auto or {own[agent]}, with which agent=\w+ acts; got \w+$"
    fits = (head == "categorical") is (combination.get("actions") not in BOXES)
    return None if fits else r"^policy_head: \w+ does not fit the action space"


def _of_distributions(combination: Combination) -> str | None:
    """Only values of actions that were taken are fitted to them."""
    if combination.get("value_head") not in DISTRIBUTIONS:
        return None
    if combination["agent"] in ("ppo", "a2c", "pqn"):
        return r"^value_head: expected mse, huber, two_hot or hl_gauss, because agent=\w+ fits "
    if combination["agent"] == "sac" and combination.get("actions", "box") not in BOXES:
        return r"^value_head: expected mse, huber, two_hot or hl_gauss, because with discrete act"
    return None


def _of_action_values(combination: Combination) -> str | None:
    if combination["agent"] not in ("dqn", "pqn"):
        return None
    if combination.get("share_backbone") == "true":
        return r"^share_backbone: expected false, because \w+ has one network"
    if combination.get("actions") in BOXES:
        return r"^action space Box.*: a value for each action .*; use agent=ppo$"
    return None


def _of_critics(combination: Combination) -> str | None:
    """Critics that read actions need finite bounds."""
    agent, actions = combination["agent"], combination.get("actions", "finite box")
    if agent not in CRITICISING:
        return None
    if actions == "box":
        return (
            r"^\w+ scales actions to finite bounds, which Box.* has not; use policy_head=gaussian"
        )
    if agent != "sac" and actions not in BOXES:
        return r"^action space .*: agent=\w+ follows the gradient of values .*; use agent=sac, "
    return None


def _of_no_memory(combination: Combination) -> str | None:
    if combination.get("memory") == "none" and combination.get("burn_in", "0") != "0":
        return r"^agent\.burn_in: expected 0, because memory=none leaves nothing"
    return None


def _of_two_lambdas(combination: Combination) -> str | None:
    """The second value is fitted to returns, and what it trains is read by the policy."""
    if combination.get("auxiliary") != "lambda_discrepancy":
        return None
    if combination["agent"] not in ("ppo", "a2c"):
        return r"^auxiliary: expected no lambda_discrepancy, because \w+ has no values that are"
    if combination.get("memory") == "none":
        return r"^auxiliary: expected no lambda_discrepancy, because there is no memory to train"
    if combination.get("share_backbone") == "false":
        return r"^share_backbone: expected true, because the policy must read the memory that aux"
    return None


def _of_privilege(combination: Combination) -> str | None:
    if combination.get("critic_observation") != "full":
        return None
    if combination["agent"] in ("dqn", "pqn"):
        return r"^critic\.observation: expected same, because \w+ has one network, which acts$"
    if combination.get("share_backbone") == "true":
        return r"^critic\.observation: expected same, .*; set share_backbone=false$"
    if combination.get("auxiliary") == "lambda_discrepancy":
        return r"^share_backbone: expected true, because the policy must read the memory that aux"
    if combination.get("extractor") in AUTOENCODERS:
        return r"^critic\.observation: expected same, because pre-training reads what the policy"
    return None


def _with_nothing_to_train(combination: Combination) -> str | None:
    has_losses = combination.get("auxiliary", "none") not in ("none", "lambda_discrepancy")
    freeze = combination.get("freeze", "false")
    if has_losses and freeze == "true":
        return r"^auxiliary: expected none, because extractor\.freeze=true leaves them nothing"
    if combination.get("extractor") != "flatten":
        return None
    if freeze != "false":
        return r"^extractor\.freeze: networks\.extractors\.Flatten has no weights to freeze"
    if has_losses:
        return r"^auxiliary: expected none, because networks\.extractors\.Flatten has no weights"
    return None


def _by_part(combination: Combination) -> str | None:
    """Images become parts where previous inputs stand beside them."""
    observations = combination.get("observations")
    if combination.get("extractor") != "dict" or observations in (None, *WITH_PARTS):
        return None
    if observations in IMAGES and combination.get("vectors") != "plain":
        return None
    return r"^extractor: networks\.extractors\.DictExtractor reads Dict .*; use extractor=\w+$"


def _of_no_image(combination: Combination) -> str | None:
    observations = combination.get("observations")
    if combination.get("extractor") not in IMAGE_EXTRACTORS:
        return None
    if observations in ("parts", "nested"):
        return "^extractor: .*has the parts .*, none of them an image; use extractor=dict$"
    is_image = observations in (None, *IMAGES, *MISREAD)
    if observations == "camera" or (is_image and combination.get("vectors") == "previous inputs"):
        return r"^extractor: .*reads images, and this observation has the parts .*=cnn$"
    if not is_image:
        return r"^extractor: .*(no image|images of 2x2 pixels, .*); use extractor=mlp$"
    return None


def _of_misread_images(combination: Combination) -> str | None:
    """Images that are too small, or that read both ways."""
    extractor, observations = combination.get("extractor"), combination.get("observations")
    if extractor == "nature_cnn" and observations == "image of 9x9":
        return r"^extractor\.layers\[1\]: a kernel of 4x4 does not fit its input of 1x1; .*=cnn$"
    if extractor not in (*IMAGE_EXTRACTORS, *AUTOENCODERS) or observations not in MISREAD:
        return None
    key, place = r"extractor", r"extractor"
    if extractor in AUTOENCODERS:
        key, place = r"extractor\.image_encoder", r"extractor@extractor\.image_encoder"
    if observations == "image of 4x4":
        return rf"^{key}: .*images of 4x4 pixels, expected at least 5x5; use {place}=mlp$"
    return rf"^{key}\.layout: auto cannot tell .*env\.image_layout=hwc.*; or use {place}=mlp$"


def is_legal(combination: Combination) -> bool:
    """Tell whether it trains, as far as its choices are made."""
    return refusal(combination) is None


# ---- which combinations are trained


def pairs(combination: Combination) -> set[Pair]:
    """Every two choices that meet."""
    return set(itertools.combinations(sorted(combination.items()), 2))


def refused_pairs(axis: str) -> set[Pair]:
    """Every choice of an axis with every other that it cannot meet."""
    return {
        tuple(sorted([(axis, first), (other, second)]))
        for other in CHOICES.keys() - {axis}
        for first, second in itertools.product(CHOICES[axis], CHOICES[other])
        if not is_legal({axis: first, other: second})
    }


def all_pairs() -> set[Pair]:
    """Every two choices that can meet, but for those that cannot tell (`_cannot_tell`)."""
    return {
        ((one, first), (other, second))
        for one, other in itertools.combinations(sorted(CHOICES), 2)
        for first in CHOICES[one]
        for second in CHOICES[other]
        if is_legal({one: first, other: second})
        and not _cannot_tell((one, first), (other, second))
        and not _cannot_tell((other, second), (one, first))
    }


def _cannot_tell(option: tuple[str, str], other: tuple[str, str]) -> bool:
    """`vae` reads observations as `autoencoder` does, `td3` as `ddpg`; no head knows what of.

    What is replayed is kept as it was observed, whatever reads it; auxiliary losses read windows.
    """
    (axis, chosen), (beside, of_that) = option, other
    if (chosen, beside) in (("vae", "observations"), ("td3", "observations")):
        return True
    if axis in OF_WINDOWS:
        is_plain = beside == "observations" and of_that not in ("stack", "parts")
        return is_plain or beside in ("extractor", "vectors", "freeze", "optimizer")
    before = ("observations", "extractor", "vectors", "auxiliary", "freeze", "optimizer")
    return (axis in PARTS or chosen in DISTRIBUTIONS) and beside in before


LARGEST_FIRST = sorted(CHOICES, key=lambda name: -len(CHOICES[name]))
"""Axes whose choice decides most: chosen early, they leave fewer pairs to later combinations."""


def pairwise() -> Iterator[Combination]:
    """Combinations in which every two options of two choices meet, few but not the fewest."""
    missing = all_pairs()
    while missing:
        (one, first), (other, second) = min(missing)
        combination = {one: first, other: second}
        for name in (name for name in LARGEST_FIRST if name not in combination):
            combination[name] = max(
                (each for each in CHOICES[name] if is_legal({**combination, name: each})),
                key=lambda option, name=name: len(pairs({**combination, name: option}) & missing),
            )
        missing -= pairs(combination)
        yield combination


USUAL: Combination = {
    "auxiliary": "none",
    "freeze": "false",
    "share_backbone": "false",
    "critic_observation": "same",
    "value_head": "mse",
    "normalize_observations": "false",
    "normalize_rewards": "false",
    "optimizer": "adam",
    "precision": "float32",
    "vectors": "plain",
    **{name: options[0] for name, options in PARTS.items()},
}


def product() -> Iterator[tuple[str, Combination]]:
    """Each network with each memory, agent and action space, on observations that it reads."""
    for network, memory, agent, actions in itertools.product(
        NETWORKS, CHOICES["memory"], CHOICES["agent"], CHOICES["actions"]
    ):
        own = NETWORKS[network]
        observations = {"flatten": "box", "mlp": "box", "dict": "camera"}
        varied = {
            "memory": memory,
            "agent": agent,
            "actions": actions,
            "observations": observations.get(own["extractor"], "image hwc"),
        }
        name = f"{network}-{memory}-{agent}-{actions}".replace("`", "")
        yield name, {**USUAL, **own, **varied}


def parts() -> Iterator[tuple[str, Combination]]:
    """All that `dqn` is made of, with each value head, with a memory and without; what of it is
    replayed, with the others' critics.
    """
    of_many = ("dueling", "noisy", "prioritized", "burn_in", "double_q")
    options = [PARTS[name] for name in of_many]
    for memory, head, *chosen in itertools.product(
        ("none", "lstm"), CHOICES["value_head"], *options
    ):
        asked = dict(zip(of_many, chosen, strict=True))
        asked |= {"n_step": "3"} if asked["double_q"] == "true" else {}
        asked |= {"stored_state": "false"} if asked["prioritized"] == "true" else {}
        asked |= {"value_rescaling": "true"} if asked["dueling"] == "true" else {}
        own = {"agent": "dqn", "memory": memory, "value_head": head, "actions": "discrete"}
        combination = {**USUAL, "extractor": "mlp", "observations": "box", **own, **asked}
        if is_legal(combination):
            yield f"dqn-{memory}-{head}-{'-'.join(parts_of(combination))}", combination
    for agent, memory, head, shares in itertools.product(
        CRITICISING, ("none", "lstm"), CHOICES["value_head"], CHOICES["share_backbone"]
    ):
        asked = {"n_step": "3", "prioritized": "true", "burn_in": "2" if memory == "lstm" else "0"}
        own = {"agent": agent, "memory": memory, "value_head": head, "actions": "finite box"}
        own |= {"extractor": "mlp", "observations": "box", "share_backbone": shares}
        yield f"{agent}-{memory}-{head}-{shares}", {**USUAL, **own, **asked}


# ---- a small run of one


RUN = [
    "device=cpu",
    "num_threads=1",
    f"env.id={ID}",
    "env.num_envs=2",
    "total_env_steps=32",
    "checkpoint.interval=1",
    "checkpoint.keep_last=9",
    "evaluation.num_envs=2",
    "evaluation.interval=0",
    "evaluation.final_episodes=2",
    "policy_head.gain=1.0",
    "optimizer.schedule=linear",
    "tracking=none",
]
"""Two rollouts or three, with a checkpoint before, between and after."""

_AUTOENCODER = [
    "extractor.latent_size=4",
    "extractor.image_encoder.filters=[2]",
    "extractor.image_encoder.hidden_sizes=[6]",
    "extractor.vector_encoder.hidden_sizes=[6]",
    "extractor.pretrain.frames=200",
    "extractor.pretrain.batch_size=64",
    "extractor.pretrain.epochs=2",
]
_ROLLOUTS = ["agent.rollout_length=8"]
_EPOCHS = [*_ROLLOUTS, "agent.num_minibatches=2", "agent.num_epochs=1"]
_REPLAY = [
    "agent.train_frequency=8",
    "agent.learning_starts=8",
    "agent.batch_size=4",
    "agent.buffer_size=24",  # it goes round
    "agent.sequence_length=4",
    "agent.sequence_stride=4",
    "agent.target_update_interval=3",
]
_CRITICS = [
    *_REPLAY,
    "agent.replay_ratio=0.25",
    "policy_head.hidden_sizes=[6]",
    "value_head.hidden_sizes=[6]",
]
_CONVOLUTIONS = ["extractor.hidden_sizes=[6]", "extractor.filters=[2,3]"]
_SMALL: dict[tuple[str, str], list[str]] = {
    ("extractor", "mlp"): ["extractor.hidden_sizes=[6]"],
    ("extractor", "dict"): ["extractor.hidden_sizes=[6]", "extractor.default.hidden_sizes=[5]"],
    ("extractor", "cnn"): _CONVOLUTIONS,
    ("extractor", "nature_cnn"): ["extractor.hidden_sizes=[6]", "+env.kwargs.size=36"],
    ("extractor", "impala_cnn"): _CONVOLUTIONS,
    ("extractor", "autoencoder"): _AUTOENCODER,
    ("extractor", "vae"): _AUTOENCODER,
    ("memory", "rnn"): ["memory.hidden_size=4"],
    ("memory", "gru"): ["memory.hidden_size=4"],
    ("memory", "lstm"): ["memory.hidden_size=4"],
    ("memory", "mingru"): ["memory.hidden_size=4"],
    ("memory", "lru"): ["memory.hidden_size=4", "memory.complex_size=3"],
    ("memory", "mlstm"): ["memory.hidden_size=4", "memory.head_size=3"],
    ("memory", "gtrxl"): ["memory.hidden_size=4", "memory.head_size=3", "memory.window=3"],
    ("agent", "ppo"): _EPOCHS,
    ("agent", "a2c"): _ROLLOUTS,
    ("agent", "dqn"): _REPLAY,
    ("agent", "pqn"): _EPOCHS,
    **{("agent", agent): _CRITICS for agent in CRITICISING},
    ("auxiliary", "vae"): ["auxiliary.vae.latent_size=3"],
    ("auxiliary", "next_latent"): ["auxiliary.next_latent.hidden_sizes=[5]"],
    ("observations", "stack"): ["env.frame_stack=3"],
    ("vectors", "previous inputs"): ["env.previous_action=true", "env.previous_reward=true"],
}


def words(combination: Combination) -> list[str]:
    """Write a combination as a command line of a small run, without its directory."""
    chosen = dict(combination)
    small = [word for choice in chosen.items() for word in _SMALL.get(choice, [])]
    for name in ("vectors", *PARTS):
        chosen.pop(name, None)
    freeze, auxiliary = chosen.pop("freeze"), chosen.pop("auxiliary")
    small += [f"agent.{name}={combination[name]}" for name in parts_of(combination)]
    if combination["critic_observation"] == "full" and combination["agent"] not in ("dqn", "pqn"):
        # What reads anything: the twin's observation has other parts.
        small += ["extractor@critic.extractor=mlp", "critic.extractor.hidden_sizes=[5]"]
    given = {
        **{f"+env.kwargs.{name}": chosen.pop(name) for name in ("observations", "actions")},
        **({} if auxiliary == "none" else {"auxiliary": auxiliary}),
        "critic.observation": chosen.pop("critic_observation"),
        **chosen,
        "extractor.freeze": freeze,
    }
    return [*RUN, *(f"{key}={value}" for key, value in given.items()), *small, *_own(combination)]


def _own(combination: Combination) -> list[str]:
    """Give the image among the parts of an observation a network of its own."""
    if combination["extractor"] != "dict":
        return []
    part = "observation" if combination["observations"] in IMAGES else "camera"
    has_image = combination["observations"] in (*IMAGES, "camera")
    key = f"extractor.keys.{part}"
    return [f"+extractor@{key}=cnn", f"{key}.filters=[2]"] if has_image else []
