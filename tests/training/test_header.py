"""What a run says of itself before it begins."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from conf.composing.command_line import load
from training.building.build import build_agent
from training.runs.header import header

VECTOR, IMAGE = spaces.Box(-1, 1, (4,)), spaces.Box(0, 255, (84, 84, 4), np.uint8)


def notices(space: gymnasium.Space, *words: str) -> list[str]:
    config = load(["device=cpu", *words])
    agent = build_agent(config, space, spaces.Discrete(3), num_envs=2)
    lines = header(config, agent).splitlines()
    return [line for line in lines if line.startswith("notice")]


def test_compiling_is_announced_with_what_it_costs() -> None:
    (notice,) = notices(VECTOR, "compile=true")
    assert "half a minute" in notice
    assert "not compiled" not in notice
    assert notices(VECTOR) == []


@pytest.mark.parametrize(
    ("space", "words", "reason"),
    [
        (VECTOR, ["memory=gru"], "a recurrent memory"),
        (
            IMAGE,
            ["agent=dqn", "extractor=nature_cnn", "agent.buffer_size=2_000"],
            "1.5 million parameters",
        ),
    ],
)
def test_what_is_slower_compiled_is_not_compiled_unless_forced(space, words, reason) -> None:
    (notice,) = notices(space, "compile=true", *words)
    assert "not compiled" in notice
    assert reason in notice
    (notice,) = notices(space, "compile=force", *words)
    assert "half a minute" in notice
