"""Rules of agents that act by the values of actions: one network, no policy beside it."""

from collections.abc import Iterator

from conf.constraints import show
from conf.steps import Config

REPLAYING = ("agents.dqn.DQN",)
"""Agents that learn from a replay."""
ACTION_VALUES = (*REPLAYING, "agents.pqn.PQN")


def action_value_problems(config: Config) -> Iterator[str]:
    """List the rules that an agent with action values breaks, one line each."""
    agent = config["agent"]
    if agent["_target_"] not in ACTION_VALUES:
        return
    yield from _one_network(config)
    if agent["final_epsilon"] > agent["epsilon"]:
        yield (
            "agent.final_epsilon: expected at most agent.epsilon, from which it falls: "
            f"{agent['final_epsilon']:g} > {agent['epsilon']:g}"
        )
    if config.get("objective") == "behaviour_cloning":
        yield (
            "agent: expected one with a policy to be taught (agent=ppo), as "
            f"{agent['_target_'].rpartition('.')[2]} has values of actions"
        )


def _one_network(config: Config) -> Iterator[str]:
    """Actor and critic are the same network."""
    name = config["agent"]["_target_"].rpartition(".")[2]
    if config["policy_head"]["hidden_sizes"]:
        yield (
            f"policy_head.hidden_sizes: expected [], because {name} acts by its values; layers of "
            f"theirs are value_head.hidden_sizes, got {show(config['policy_head']['hidden_sizes'])}"
        )
    for part, losses in config["gradients"].items():
        if losses == ["actor"]:
            yield (
                f"gradients.{part}: expected critic among them, because {name} has no policy loss "
                f"that could train it; [] trains nothing, got {show(losses)}"
            )
    if config["share_backbone"]:
        yield f"share_backbone: expected false, because {name} has one network, nothing to share"
    for part in ("extractor", "memory"):
        own = config["critic"][part]
        if own is not None:
            yield (
                f"critic.{part}: expected null, because {name} has one network, which acts and is "
                f"fitted; {part}=... chooses its {part}, got {show(own['_target_'])}"
            )
