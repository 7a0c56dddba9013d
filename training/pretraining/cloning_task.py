"""What behaviour cloning learns from: a run's policy at work in environments of its own."""

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from agents.agent import Agent
from conf.combinations import training_sequence_length
from envs.seeding import environment_seeds
from training.collect import Collector
from training.environments import build_environments
from training.instantiation import plain
from training.pretraining.cloning import Cloning, from_tensors, rollout_length, to_tensors
from training.pretraining.frames import refuse_too_many
from training.pretraining.players import make_player
from training.pretraining.stages import Recording, Task
from training.tracking import NoTensorBoard, TensorBoard

_COPIES = 2
"""The stream, and the sequences that are cut from it."""


class CloningTask(Task):
    """An agent's actor, and the run whose actions it learns."""

    def __init__(self, config: DictConfig, agent: Agent) -> None:
        """Take the agent."""
        self._config, self._agent = config, agent
        self._length = training_sequence_length(plain(config))

    def collect(self, should_abandon: Callable[[], bool]) -> Recording:
        """Let the source act, all environments for as many steps."""
        config, options = self._config, self._config.cloning
        environments = build_environments(config, num_envs=config.env.num_envs)
        try:
            space = environments.single_observation_space
            refuse_too_many("cloning.frames", space, _COPIES * options.frames)
            player = make_player(
                "source",
                config.source,
                config,
                self._agent.policy_head,
                environments,
                is_greedy=options.deterministic,
            )
            size = environments.num_envs
            collector = Collector(
                environments,
                rollout_length=rollout_length(options.frames, size, self._length),
                seeds=environment_seeds(config.seed, size, purpose="pretraining"),
            )
            collector.should_abandon = should_abandon
            demonstration = collector.collect(player)
        finally:
            environments.close()
        return to_tensors(demonstration), {"env_steps": collector.env_steps}

    def objective(self, recording: Recording) -> Cloning:
        """Put the actor and the demonstration together."""
        options = self._config.cloning
        return Cloning(
            self._agent,
            from_tensors(recording[0]),
            sequence_length=self._length,
            batch_size=options.batch_size,
            held_out=options.held_out,
            seed=self._config.seed,
        )

    def weights(self) -> dict[str, Tensor]:
        """Return the actor as an agent names it, and the critic as far as it is the actor."""
        agent: Any = self._agent
        shared = ["critic."] if self._config.share_backbone else []
        names = ("actor.", "policy_head.", *shared)
        return {
            f"agent.{name}": tensor
            for name, tensor in agent.state_dict().items()
            if name.startswith(names)
        }

    def show(self, tensorboard: TensorBoard | NoTensorBoard, step: int) -> None:
        """Draw nothing."""
