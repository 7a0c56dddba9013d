"""When the slow copy is made, and how far it goes."""

from typing import Any

import torch


def test_the_target_is_a_copy_after_the_steps_that_are_named_and_no_others(build) -> None:
    """One environment without an end, a gradient step each: weights are compared step by step."""
    run = build(
        "agent=dqn", "env.num_envs=1", "env.id=neurl/Endless-v0", "agent.train_frequency=1",
        "agent.replay_ratio=1", "agent.target_update_interval=4", "agent.learning_starts=0",
    )  # fmt: skip
    agent = run.agent
    agent.learn(run.collector.collect(agent))
    copied = []
    for _ in range(24):
        before = agent.clock.updates
        agent.learn(run.collector.collect(agent))
        if agent.clock.updates == before + 1:
            own = agent.target.network.get_submodule("value_head").state_dict()
            online = agent.value_head.state_dict()
            if all(torch.equal(own[name], online[name]) for name in own):
                copied.append(agent.clock.updates)
    assert len(copied) > 3
    assert all(update % 4 == 0 for update in copied)


def test_a_slow_target_goes_part_of_the_way(build) -> None:
    run = build("agent=dqn", "agent.target_update_interval=1", "agent.polyak_rate=0.25")
    agent = run.agent
    own = agent.target.network.get_submodule("value_head").layers.actions.output.weight
    online = agent.value_head.layers.actions.output.weight
    step = agent._gradient_step
    expected = own.clone()

    def note(*arguments: Any) -> Any:
        nonlocal expected
        assert torch.allclose(own, expected, atol=1e-6)
        result = step(*arguments)
        expected = torch.lerp(own, online.detach(), 0.25)
        return result

    agent._gradient_step = note
    while agent.clock.updates < 6:
        agent.learn(run.collector.collect(agent))
    assert torch.allclose(own, expected, atol=1e-6)
    assert not torch.allclose(own, online, atol=1e-6)
