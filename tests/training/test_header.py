"""What a run says of itself before it begins."""

import gymnasium
from gymnasium import spaces

from conf.composing.command_line import load
from training.building.build import build_agent
from training.runs.header import header

VECTOR = spaces.Box(-1, 1, (4,))


def notices(space: gymnasium.Space, *words: str) -> list[str]:
    config = load(["device=cpu", *words])
    agent = build_agent(config, space, spaces.Discrete(3), num_envs=2)
    lines = header(config, agent).splitlines()
    return [line for line in lines if line.startswith("notice")]


def test_compiling_is_announced_with_what_it_costs() -> None:
    (notice,) = notices(VECTOR, "compile=true")
    assert "half a minute" in notice
    assert notices(VECTOR) == []
