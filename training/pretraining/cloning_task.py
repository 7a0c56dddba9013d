"""What behaviour cloning learns from: a run's policy at work in environments of its own."""

from collections.abc import Callable
from typing import Any

from gymnasium.vector import VectorEnv
from omegaconf import DictConfig
from torch import Tensor

from agents.agent import Agent
from conf.steps import training_sequence_length
from envs.seeding import environment_seeds
from training.collect import Collector, Player
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

    def check(self, environments: VectorEnv[Any, Any, Any]) -> None:
        """Look, before anything is written, whether the source can act here, and frames fit.

        Raises:
            ValueError: in one line, why not.
        """
        space, frames = environments.single_observation_space, self._config.cloning.frames
        refuse_too_many("cloning.frames", space, frames, copies=_COPIES)
        self._player(environments)

    def _player(self, environments: VectorEnv[Any, Any, Any]) -> Player:
        config, head = self._config, self._agent.policy_head
        is_greedy = config.cloning.deterministic
        return make_player("source", config.source, config, head, environments, is_greedy=is_greedy)

    def collect(self, should_abandon: Callable[[], bool]) -> Recording:
        """Let the source act, all environments for as many steps."""
        config, options = self._config, self._config.cloning
        environments = build_environments(config, num_envs=config.env.num_envs)
        try:
            player = self._player(environments)
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
        """Return the actor as an agent names it, and the critic as far as it is built alike."""
        agent: Any = self._agent
        shared = ["critic."] if self._config.share_backbone else []
        names = ("actor.", "policy_head.", *shared)
        weights = {
            f"agent.{name}": tensor
            for name, tensor in agent.state_dict().items()
            if name.startswith(names)
        }
        if not shared and self._config.critic.extractor is None:
            extractor = agent.actor.extractor.state_dict()
            weights |= {f"agent.critic.extractor.{k}": v.clone() for k, v in extractor.items()}
        return weights

    def show(self, tensorboard: TensorBoard | NoTensorBoard, step: int) -> None:
        """Draw nothing."""
