"""Learning from replay, for agents such as DQN: update schedule, sampling, target networks."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.learning.gradient_step import COUNTS
from agents.learning.learner import Learner
from agents.learning.parts import Networks
from agents.learning.schedules import exploration_schedule
from agents.learning.sequences import Steps
from agents.learning.target_network import TargetNetwork
from agents.learning.unroll import read_summary
from agents.mathematics.losses import sequence_priorities
from agents.mathematics.returns import Bootstrap, n_step_bootstrap
from agents.replay.replay import Replay
from agents.replay.ring import StepLayout
from agents.replay.samplers import PrioritizedSampler, UniformSampler
from agents.trajectory import Trajectory
from networks import ranks
from networks.augmentation import random_shift
from networks.autoencoding.losses import Reading
from networks.backbone import Backbone
from networks.chain import value_chain
from networks.memory.memories import ChosenSteps, Memory, pick_steps
from networks.normalization import RewardScaling

if TYPE_CHECKING:
    from agents.agent import Setup


Weights = Float[Tensor, " N"] | None
"""Importance weights of windows; None without prioritised replay."""


class ReplayLearner(Learner):
    """Stores trajectories in a replay and takes gradient steps on sampled windows.

    A window is `burn_in + L + n_step - 1` steps long. The first `burn_in` only update the memory
    state, the next L are learnt from, and the rest is for the targets.

    Args:
        options: of the agent, with the names of `conf.schema.agents.DQNOptions`.
        policy_delay: gradient steps from one of the policy's to the next, if actor and policy head
            have target networks too: then all follow. None: critic and value head alone have them.

    Attributes:
        learnt: the steps of a window that are learnt from.
        keeps_state: whether a window starts from the memory state stored while acting.
    """

    replay: Replay

    def __init__(
        self, networks: Networks, options: Any, setup: "Setup", *, policy_delay: int | None
    ) -> None:
        super().__init__()
        self._updates_per_copy = policy_delay or 1
        length, state_size = setup.sequence_length, networks.actor.memory.state_size
        backbones = networks.backbones.values()
        self._batch_size = options.batch_size
        self._max_share, self._polyak_rate = options.priority_max_share, options.polyak_rate
        self._discount, self._n_step = options.discount, options.n_step
        self.learnt = slice(options.burn_in, options.burn_in + length)
        self._following = slice(options.burn_in + 1, options.burn_in + length + 1)
        shift = options.random_shift
        self._shift = random_shift(networks.actor, shift) if shift else None
        self._normalizes = any(each.normalizes for each in backbones)
        self._needs_next = networks.auxiliary.needs_next
        # Windows of a single step begin with a valid one.
        self._has_resets = length > 1 or not networks.auxiliary.is_empty
        self._stride = 1 if length == 1 and not state_size else options.sequence_stride
        self.keeps_state = options.stored_state and state_size > 0
        self.replay = self._make_replay(networks, options, setup)
        copies = options.target_update_interval if options.polyak_rate == 1 else None
        self.clock = UpdateClock(
            learning_starts=options.learning_starts,
            replay_ratio=options.replay_ratio,
            target_update_interval=copies,
        )
        self.reward_scaling = setup.reward_scaling
        # Annealed to 1, full correction (Schaul et al. 2016, section 3.4).
        self.importance_exponent = exploration_schedule(options.importance_exponent, 1.0, 1.0)
        policy = (networks.actor, networks.policy_head) if policy_delay else ()
        copied = (networks.critic, networks.value_head, *policy)
        inputs = [each for b in backbones for each in (b.inputs, b.normalization)]
        is_copied = getattr(options, "target_networks", True)  # a key of TD3 and SAC
        self.target_network = TargetNetwork(copied, shared=inputs if is_copied else copied)
        self._networks = networks
        self.renew()
        self._no_counts = {tag: torch.zeros(()) for tag in COUNTS}

    def _make_replay(self, networks: Networks, options: Any, setup: "Setup") -> Replay:
        length = setup.sequence_length
        size = networks.actor.memory.state_size if self.keeps_state else 0
        return Replay(
            StepLayout.of(setup.observations, setup.frame_stacks, networks.policy_head, size),
            buffer_size=options.buffer_size,
            num_envs=setup.num_envs,
            window_length=options.burn_in + length + options.n_step - 1,
            stride=self._stride,
            valid_step=options.burn_in if length == 1 else None,
            state_horizon=self.learnt.stop,
            sampler=(
                PrioritizedSampler(priority_exponent=options.priority_exponent)
                if options.prioritized
                else UniformSampler()
            ),
        )

    def renew(self) -> None:
        """Rebuild what refers to the parameters, after modules were moved or copied."""
        self.target_network.renew()
        self._target_chain = value_chain(*self.target_network.copies[:2])
        is_plain = self._networks.auxiliary.is_empty
        online = self._networks.actor, self._networks.value_head
        self._chain = value_chain(*online) if is_plain else None

    def weights_replaced(self) -> None:
        """Sync the target network after weights were loaded."""
        self.target_network.update(1.0)

    def begin_anew(self) -> None:
        """Count steps and updates from 0."""
        self.clock.begin_anew()

    def learn(self, agent: Any, trajectory: Trajectory) -> dict[str, Tensor]:
        """Add a trajectory and take the gradient steps that are due.

        Args:
            agent: its losses are `losses(window, weights, noise)`, and what it adds to a gradient
                step are `noise`, `targets` and `measure`.
        """
        # Only what the networks read is moved to a GPU: the replay keeps images on the CPU.
        is_read = self.keeps_state or self._normalizes
        seen = trajectory.to(agent.device) if is_read else trajectory
        states = self._states(agent.actor, seen) if self.keeps_state else None
        self.replay.add(trajectory, states)
        if isinstance(self.reward_scaling, RewardScaling):
            steps = trajectory.rewards, trajectory.is_first[0], trajectory.ended, trajectory.valid
            self.reward_scaling.observe(*(each.to(agent.device) for each in steps))
        resets = trajectory.arrays["is_first"][1:]
        taken = ranks.total(resets.size - int(np.count_nonzero(resets)))
        is_ready = not ranks.total(int(self.replay.num_windows == 0))  # of every rank
        due, copies = self.clock.advance(taken, is_ready=is_ready)
        if copies:  # between blocks of gradient steps, never within one
            self.target_network.update(1.0)
        metrics = self._improve(agent, due) if due else self._no_counts
        if self._normalizes:
            agent.networks.observe(seen.step_observations, seen.valid)
        return metrics

    @torch.no_grad()
    def _states(self, backbone: Backbone, trajectory: Trajectory) -> Float[Tensor, "K B S"]:
        """Return the memory states before every step of a trajectory that is on the stride.

        The weights have not changed since it was collected, so recomputing gives the states of
        acting. The stride divides the length of trajectories, or is a multiple of it.
        """
        stride = self._stride
        if self.replay.cursor % stride:
            return trajectory.state.new_zeros(0, *trajectory.state.shape).cpu()
        if stride >= len(trajectory.rewards):
            return trajectory.state[None].cpu()
        _, states, _ = backbone.memory.unroll(
            backbone.features(trajectory.step_observations),
            trajectory.state,
            trajectory.is_first[:-1],
            sequence_length=stride,
        )
        return states.cpu()

    def _improve(self, agent: Any, due: int) -> dict[str, Tensor]:
        beta = self.importance_exponent(agent.progress) if self.replay.uses_priorities else 0.0
        step, device = agent.gradient_step, agent.device
        observed: dict[str, Tensor] = {}
        with agent.training_mode():
            for number in range(due):
                taken = self.clock.updates - due + number + 1
                agent.choose_losses(taken)
                sample = self.replay.sample(
                    self._batch_size, agent.generator, importance_exponent=beta
                )
                window, weights = sample.window.to(device), sample.weights
                if self._shift is not None:
                    images = self._shift(window.observations, agent.generator)
                    window = replace(window, observations=images)
                weights = None if weights is None else weights.to(device)
                noise = agent.noise()
                if agent.networks.value_head.learns_support or (agent.is_watched and not number):
                    observed = self._observe_targets(agent, window, noise)
                result = step(window, weights, noise)
                if result.priorities is not None:
                    self.replay.update(sample.starts, result.priorities.cpu())
                if self._polyak_rate < 1 and taken % self._updates_per_copy == 0:
                    self.target_network.update(self._polyak_rate)
        report: dict[str, Tensor] = step.report()
        if not agent.is_watched:
            return report
        report |= observed | agent.measure(window, sample.state_after)
        report["replay/size"] = torch.tensor(float(self.replay.num_steps))
        report["replay/age"] = sample.age
        if result.priorities is not None and weights is not None:
            report["replay/importance_weight_min"] = weights.min()
            report["schedule/importance_exponent"] = torch.tensor(beta)
            report["replay/priority_mean"] = result.priorities.mean()
            report["replay/priority_max"] = result.priorities.max()
        return report

    def _observe_targets(self, agent: Any, window: Trajectory, noise: Any) -> Any:
        """Update the value heads' support from the targets, before a gradient step on them."""
        targets, valid = agent.detached(agent.targets, window, noise), window.valid[self.learnt]
        if targets is None:
            return {}
        self.target_network.copies[1].observe(targets, valid)
        return self._networks.value_head.observe(targets, valid)

    # ---- reading windows

    def bootstrap(self, window: Trajectory) -> Bootstrap:
        """Return the n-step rewards of the learnt steps, scaled, and what they bootstrap from."""
        scaling, learnt = self.reward_scaling, self.learnt
        return n_step_bootstrap(
            window.rewards if scaling is None else scaling(window.rewards),
            window.terminated,
            window.truncated,
            first=learnt.start,
            length=learnt.stop - learnt.start,
            n_step=self._n_step,
            discount=self._discount,
        )

    def values(
        self, window: Trajectory, state: Float[Tensor, "N S"], noise: Tensor | None
    ) -> tuple[Float[Tensor, "L N A *K"], dict[str, Reading]]:
        """Return the online network's raw outputs at the learnt steps, and auxiliary inputs.

        Args:
            state: memory state before them.
        """
        if self._chain is not None:
            return self._chain(window.observations, self.learnt), {}
        summary, readings = self.read(window, "actor", state)
        return self._networks.value_head(summary, noise), readings

    def target_values(
        self, window: Trajectory, steps: ChosenSteps, noise: Tensor | None
    ) -> Float[Tensor, "L N A *K"]:
        """Return the target network's raw outputs at chosen steps of the windows."""
        if self._target_chain is not None and isinstance(steps, slice):
            return self._target_chain(window.observations, steps)
        output: Tensor = self.target_network.copies[1](self.target_summary(window, steps), noise)
        return output

    def first_state(self, window: Trajectory, backbone: str) -> Float[Tensor, "N S"]:
        """Return a backbone's memory state before a window.

        Stored, if any, is the state of the backbone that acted. A critic of its own has none, and
        starts from its initial state.
        """
        acted = backbone == "actor" or self._networks.shares_backbone
        memory: Memory = getattr(self._networks, backbone).memory
        if acted and (self.keeps_state or not memory.state_size):
            return window.state
        return memory.initial_state(window.rewards.shape[1]).to(window.rewards.device)

    def burn_in_state(self, window: Trajectory, backbone: str = "actor") -> Float[Tensor, "N S"]:
        """Return the memory state before the learnt steps, without gradient.

        Source: Kapturowski et al. (2019), section 3.
        """
        state, steps = self.first_state(window, backbone), slice(0, self.learnt.start)
        if not self.learnt.start:
            return state
        module: Backbone = getattr(self._networks, backbone)
        with torch.no_grad():
            _, state = module.forward(
                pick_steps(window.observations, steps), state, window.is_first[steps]
            )
        return state

    def read(
        self, window: Trajectory, backbone: str, state: Float[Tensor, "N S"]
    ) -> tuple[Float[Tensor, "L N H"], dict[str, Reading]]:
        """Apply a backbone to the learnt steps; also return auxiliary inputs.

        Args:
            state: memory state before them.
        """
        return read_summary(self._networks, backbone, self._steps(window), state)

    def target_summary(self, window: Trajectory, steps: ChosenSteps) -> Float[Tensor, "L N H"]:
        """Apply the target network's backbone from the window's start; return chosen steps."""
        backbone = self.target_network.copies[0]
        state = self.first_state(window, "critic")
        summary: Tensor = backbone.at(window.observations, state, window.is_first, steps)
        return summary

    def valid(self, window: Trajectory) -> Bool[Tensor, "L N"] | None:
        """Return which learnt steps are valid; None for all."""
        return ~window.is_first[self._following] if self._has_resets else None

    def _steps(self, window: Trajectory) -> Steps:
        learnt, observations = self.learnt, window.observations
        following = pick_steps(observations, self._following) if self._needs_next else None
        return Steps(
            observations=pick_steps(observations, learnt),
            next_observations=following,
            is_first=window.is_first[learnt],
            actions=window.actions[learnt],
            valid=self.valid(window),
        )

    def priorities(
        self, errors: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"] | None
    ) -> Float[Tensor, " N"]:
        """Return new priorities of windows."""
        if valid is None:
            valid = torch.ones_like(errors, dtype=torch.bool)
        return sequence_priorities(errors, valid, max_share=self._max_share)


class UpdateClock(nn.Module):
    """Counts environment steps and says when gradient steps and target updates are due.

    There are `replay_ratio` gradient steps per environment step; fractions are carried over.
    Environment steps before learning started are not made up for. The counts are saved in
    checkpoints, so that a resumed run takes the same steps.

    Args:
        learning_starts: environment steps before the first gradient step.
        replay_ratio: gradient steps per environment step.
        target_update_interval: environment steps between target updates; None for none.
    """

    def __init__(
        self, *, learning_starts: int, replay_ratio: float, target_update_interval: int | None
    ) -> None:
        super().__init__()
        self._learning_starts, self._ratio = learning_starts, replay_ratio
        self._interval = target_update_interval
        self.begin_anew()

    def begin_anew(self) -> None:
        """Count from 0."""
        # Environment steps, those before learning started, gradient steps. In a list, because
        # setting an attribute of a module takes a microsecond.
        self._counts = [0, 0, 0]

    def get_extra_state(self) -> Tensor:
        """Return the counts for a checkpoint."""
        return torch.tensor(self._counts)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the counts from a checkpoint."""
        self._counts = state.tolist()

    @property
    def updates(self) -> int:
        """Gradient steps so far."""
        return self._counts[2]

    def advance(self, env_steps: int, *, is_ready: bool) -> tuple[int, bool]:
        """Count environment steps; return the gradient steps due and whether to copy before them.

        A copy to the target network is due when a multiple of the interval is reached. Several
        multiples at once are one copy: the network has not changed in between.

        Args:
            is_ready: whether the replay can be sampled.
        """
        before, start, updates = self._counts
        after, every = before + env_steps, self._interval
        if after < self._learning_starts or not is_ready:
            start = after
        # Against rounding, as in 3 * 0.1.
        total = math.floor((after - start) * self._ratio + 1e-6)
        due = max(total - updates, 0)
        self._counts[:] = after, start, updates + due
        return due, every is not None and after // every > before // every
