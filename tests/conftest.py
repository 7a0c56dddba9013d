"""Executes the annotations of the mathematics under test: shapes and types are checked."""

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import jaxtyping
import pytest
import torch

# Before the first import of either package; the rest of the library runs as users run it.
jaxtyping.install_import_hook(["agents", "networks"], "beartype.beartype")

# Small networks are fastest on one thread, and a fixed number keeps sums in one order.
torch.set_num_threads(1)


@pytest.fixture
def build_run() -> Iterator[Callable[[Sequence[str]], Any]]:
    """Builds what a command line asks for: `config, environments, agent, collector`."""
    from conf.compose import load
    from training.build import build_agent, build_collector
    from training.environments import build_environments

    made = []

    def build(words: Sequence[str]) -> SimpleNamespace:
        config = load(words)
        environments = build_environments(config, num_envs=config.env.num_envs)
        made.append(environments)
        agent = build_agent(
            config,
            environments.single_observation_space,
            environments.single_action_space,
            num_envs=config.env.num_envs,
        )
        collector = build_collector(config, environments)
        return SimpleNamespace(
            config=config, environments=environments, agent=agent, collector=collector
        )

    yield build
    for environments in made:
        environments.close()
