"""Writes what combines, and the words in which the rest is refused.

    python -m tests.support > docs/support.md

Which cells are legal is said in `tests/grid.py`; the words are those of the program itself.
"""

import copy
import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from omegaconf import DictConfig, OmegaConf

from conf.composing.command_line import InvalidConfiguration, load
from tests.grid import (
    CHOICES,
    CRITICISING,
    NETWORKS,
    USUAL,
    Combination,
    is_legal,
    product,
    registered,
    words,
)
from training.building.build import build_agent
from training.building.environments import build_environments

EXTRACTORS = {f"`{name}`": {"extractor": name} for name in CHOICES["extractor"]}
OBSERVED: dict[str, Combination] = {
    "a vector (Box)": {"observations": "box"},
    "Discrete": {"observations": "discrete"},
    "MultiDiscrete": {"observations": "choices"},
    "MultiBinary": {"observations": "bits"},
    "Dict": {"observations": "parts"},
    "Tuple and Dict, nested": {"observations": "nested"},
    "Dict with an image": {"observations": "camera"},
    "an image, channels last": {"observations": "image hwc"},
    "an image, channels first": {"observations": "image chw"},
    "a grid of codes (MultiDiscrete)": {"observations": "codes grid"},
    "a grid of truth values (Box)": {"observations": "truth grid"},
    "a stack of grey images": {"observations": "stack"},
    "an image, and the previous action": {
        "observations": "image hwc",
        "vectors": "previous inputs",
    },
    "an image of 9x9 pixels": {"observations": "image of 9x9"},
    "an image of 4x4 pixels": {"observations": "image of 4x4"},
    "an image that reads both ways, 9x9x9": {"observations": "image of 9x9x9"},
}
TRAINED: dict[str, Combination] = {
    **{f"`auxiliary={name}`": {"auxiliary": name} for name in CHOICES["auxiliary"][1:-1]},
    "`auxiliary=lambda_discrepancy`, a shared memory": {
        "auxiliary": "lambda_discrepancy",
        "memory": "gru",
        "share_backbone": "true",
    },
    "`critic.observation=full`": {"critic_observation": "full"},
    "`extractor.freeze=true`": {"freeze": "true"},
    "`extractor.freeze=16`": {"freeze": "16"},
    "frozen, with `auxiliary=reconstruction`": {"auxiliary": "reconstruction", "freeze": "true"},
}
AGENTS = {f"`{name}`": {"agent": name} for name in CHOICES["agent"]}
OF_AGENTS: dict[str, Combination] = {
    "Discrete actions": {"actions": "discrete"},
    "MultiDiscrete actions": {"actions": "choices"},
    "MultiBinary actions": {"actions": "bits"},
    "Box actions": {"actions": "finite box"},
    "Box actions without bounds": {"actions": "box"},
    "`memory=rnn`, `gru`, `lstm`, `mingru`, `lru`, `mlstm`, `gtrxl`": {"memory": "gru"},
    "`share_backbone=true`": {"share_backbone": "true"},
    "`critic.observation=full`": {"critic_observation": "full"},
    "`auxiliary=lambda_discrepancy`, separate memories": {
        "auxiliary": "lambda_discrepancy",
        "memory": "gru",
    },
    "`auxiliary=lambda_discrepancy`, no memory": {"auxiliary": "lambda_discrepancy"},
    "`policy_head=categorical`": {"policy_head": "categorical"},
    **{
        f"`policy_head={name}`, Box actions": {"policy_head": name, "actions": actions}
        for name, actions in (
            ("gaussian", "box"),
            ("squashed_gaussian", "finite box"),
            ("deterministic", "finite box"),
        )
    },
    **{f"`value_head={name}`": {"value_head": name} for name in CHOICES["value_head"]},
    "`agent.dueling=true`": {"dueling": "true"},
    "`agent.noisy=true`": {"noisy": "true"},
    "`agent.double_q=true`": {"double_q": "true"},
    "`agent.n_step=3`": {"n_step": "3"},
    "`agent.value_rescaling=true`": {"value_rescaling": "true"},
    "`agent.prioritized=true`": {"prioritized": "true"},
    "`agent.burn_in=2`, with a memory": {"burn_in": "2", "memory": "gru"},
    "`agent.burn_in=2`, without": {"burn_in": "2"},
    "`agent.stored_state=false`": {"stored_state": "false", "memory": "gru"},
}
SUITED = {"dict": "camera", "flatten": "box", "mlp": "box"}
"""Observations for extractors where these are not what is varied; an image for the others."""

Notes = dict[str, tuple[int, str]]
"""Lines with their numbers, by what they have in common."""

_PARTICULARS = re.compile(
    r"networks\.\w+\.\w+|\([\d, ]+\)|parts .*?;|keys\.[^\s=]+"
    r"|agent[.=]\w+|got \w+, which|because \w+ has|Box\(.*\)|^\w+(?= scales)"
)
"""What differs in a line from class to class, and from observation to observation."""


def cell(*choices: Mapping[str, str]) -> Combination:
    """Complete choices by the usual ones and observations that the extractor reads."""
    chosen = {name: option for each in choices for name, option in each.items()}
    observations = SUITED.get(chosen["extractor"], "image hwc")
    other = {"memory": "none", "agent": "a2c", "observations": observations}
    is_continuous = chosen.get("agent") in CRITICISING
    other["actions"] = "finite box" if is_continuous else "discrete"
    return {**USUAL, **other, **chosen}


def cells(rows: Mapping[str, Combination]) -> Iterator[tuple[str, Combination]]:
    """Name and complete every cell of a table of extractors, or of agents with an `mlp`."""
    columns = AGENTS if rows is OF_AGENTS else EXTRACTORS
    for (column, one), (label, other) in itertools.product(columns.items(), rows.items()):
        yield f"{column}, {label}".replace("`", ""), cell({"extractor": "mlp"}, one, other)


def answer(combination: Combination) -> str | None:
    """Build the agent of a combination; return the line that refuses it."""
    return _answer(tuple(combination.items()))


@functools.cache
def _answer(items: tuple[tuple[str, str], ...]) -> str | None:
    combination = dict(items)
    try:
        config = copy.deepcopy(_composed(tuple({**combination, "observations": "box"}.items())))
        OmegaConf.set_readonly(config, False)
        config.env.kwargs.observations = combination["observations"]
        config.env.frame_stack = 3 if combination["observations"] == "stack" else 1
        environments = build_environments(config, num_envs=1)
        spaces = environments.single_observation_space, environments.single_action_space
        environments.close()
        build_agent(config, *spaces, num_envs=1)
    except (InvalidConfiguration, ValueError) as error:
        return str(error)
    return None


@functools.cache
def _composed(items: tuple[tuple[str, str], ...]) -> DictConfig:
    return load(words(dict(items)))


def page() -> str:
    """Write docs/support.md."""
    notes: Notes = {}
    tables = [
        f"{_OF_OBSERVATIONS}\n\n{_cells(EXTRACTORS, OBSERVED, notes)}",
        f"{_OF_TRAINING}\n\n{_cells(EXTRACTORS, TRAINED, notes)}",
        f"{_OF_PARTS}\n\n{_cells(AGENTS, OF_AGENTS, notes)}",
        _product(),
    ]
    footnotes = "\n".join(f"{number}. `{line}`" for number, line in notes.values())
    return "\n\n".join([_OPENING, *tables, _OF_REFUSALS, footnotes]) + "\n"


def _table(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([label, *cells] for label, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _verdict(combination: Combination, notes: Notes) -> str:
    if is_legal(combination):
        return "yes"
    line = answer(combination)
    assert line is not None, f"nothing refuses {combination}"
    number, _ = notes.setdefault(_PARTICULARS.sub("", line), (len(notes) + 1, line))
    return f"no ({number})"


def _cells(
    columns: Mapping[str, Combination], rows: Mapping[str, Combination], notes: Notes
) -> str:
    base = {"extractor": "mlp"}
    verdicts = {
        label: [_verdict(cell(base, one, other), notes) for one in columns.values()]
        for label, other in rows.items()
    }
    return _table(["", *columns], verdicts)


def _product() -> str:
    legal = {name for name, combination in product() if is_legal(combination)}

    def agents(network: str, memory: str) -> str:
        plain = network.replace("`", "")
        found = [
            agent
            for agent in CHOICES["agent"]
            if all(
                f"{plain}-{memory}-{agent}-{one}" in legal
                for one in CHOICES["actions"]
                if is_legal({"agent": agent, "actions": one})
            )
        ]
        return ", ".join(f"`{agent}`" for agent in found)

    rows = {name: [agents(name, memory) for memory in CHOICES["memory"]] for name in NETWORKS}
    head = ["", *(f"`memory={memory}`" for memory in CHOICES["memory"])]
    count = len(legal)
    return f"{_OF_PRODUCT.format(count=count)}\n\n{_table(head, rows)}"


_OPENING = """\
# What combines

`make test-grid` trains every cell that says yes a little, interrupts it, goes on in networks built
anew, and compares it bit for bit with the run that was not interrupted: weights, moments of the
optimizer, random generators, scores. Every cell that says no is refused in one line, before
anything is trained. This page is written by `python -m tests.support > docs/support.md`, and a test
says when it is out of date."""

_OF_REFUSALS = """\
## How the rest is refused

With one example of each."""

_OF_OBSERVATIONS = """\
## Extractors and observations

`nature_cnn` reads images from 36x36 pixels, the other extractors of images from 5x5. `autoencoder`
and `vae` take a `cnn` for images and an `mlp` for all else."""

_OF_TRAINING = """\
## Extractors, auxiliary losses and freezing"""

_OF_PARTS = """\
## Agents, what they act by and what they learn from

Parts of `dqn` go with each other in any number, with every value head and with every memory.
`ddpg`, `td3` and `sac` are shown with Box actions, where nothing else is said; with discrete ones
`sac` takes `mse`, `huber`, `two_hot` and `hl_gauss`."""

_OF_PRODUCT = """\
## Networks, memories, agents and actions

Each with every action space that the agent takes: {count} cells. `autoencoder` and `vae` are
pre-trained and frozen here. `make test` trains every *pair* of choices, those of the tables above
and optimizers, normalised observations and rewards and `precision=bf16` too."""


if __name__ == "__main__":
    with registered():
        print(page(), end="")
