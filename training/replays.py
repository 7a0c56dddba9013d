"""Whether what an agent will remember fits into this machine's memory, asked before it trains."""

from typing import Any

import gymnasium

from agents.agent import Agent
from agents.replay import Replay
from agents.step_layout import StepLayout
from envs.frame_stack import frame_stacks
from training.free_memory import free_memory


def refuse_large_replay(agent: Agent, observation_space: gymnasium.Space[Any]) -> None:
    """Refuse to begin what would run out of memory hours later.

    Raises:
        ValueError: the replay does not fit; with the largest one that does.
    """
    replay = agent.experience()
    if not isinstance(replay, Replay):
        return
    layout = StepLayout.of_spaces(
        observation_space,
        frame_stacks(observation_space),
        action_shape=agent.policy_head.action_shape,
        action_dtype=agent.policy_head.action_dtype,
        state_size=agent.actor.memory.state_size,
    )
    replay.refuse_too_large(layout, available=free_memory())
