"""Learning from replay: adding, when steps are due, drawing, target networks. DQN and its kin."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.learning.gradient_step import COUNTS
from agents.learning.parts import Networks
from agents.learning.schedules import exploration_schedule
from agents.learning.sequences import Steps
from agents.replay.replay import Replay
from agents.replay.samplers import PrioritizedSampler, Sampler, UniformSampler
from agents.trajectory import Trajectory
from networks.backbone import Backbone
from networks.heads.values import ValueHead
from networks.memory.memories import ChosenSteps
from networks.observations import map_observations

if TYPE_CHECKING:
    from agents.agent import Setup


class ReplayLearner(nn.Module):
    """Keeps the stream in a replay, and takes the gradient steps that are due on what it draws.

    A drawn window is `burn_in + L + n_step - 1` steps long: the first only bring the memory up to
    date, the next L are learnt from, and targets read the rest.

    Args:
        options: of the agent; numbers named as in `conf.schema.agents.DQNOptions`.
        copied: modules that the target network is a copy of, by name.

    Attributes:
        learnt: the steps of a window that are learnt from.
        keeps_state: whether a window begins with the memory that acting had there.
    """

    def __init__(
        self, networks: Networks, options: Any, setup: "Setup", *, copied: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        length, state_size = setup.sequence_length, networks.actor.memory.state_size
        self._batch_size, self._burn_in = options.batch_size, options.burn_in
        self._max_share, self._polyak_rate = options.priority_max_share, options.polyak_rate
        self.learnt = slice(options.burn_in, options.burn_in + length)
        self._stride = 1 if length == 1 and not state_size else options.sequence_stride
        self.keeps_state = options.stored_state and state_size > 0
        self.replay = Replay(
            buffer_size=options.buffer_size,
            num_envs=setup.num_envs,
            window_length=options.burn_in + length + options.n_step - 1,
            stride=self._stride,
            valid_step=options.burn_in if length == 1 else None,
            state_horizon=self.learnt.stop,
            frame_stacks=setup.frame_stacks,
            keeps_state=self.keeps_state,
            sampler=_sampler(options),
        )
        copies = options.target_update_interval if options.polyak_rate == 1 else None
        self.clock = UpdateClock(
            learning_starts=options.learning_starts,
            replay_ratio=options.replay_ratio,
            target_update_interval=copies,
        )
        self.reward_scaling = setup.reward_scaling
        # (N P)^-beta: the bias that is left is undone by the end (Schaul et al. 2016, section 3.4).
        self.importance_exponent = exploration_schedule(options.importance_exponent, 1.0, 1.0)
        inputs = (networks.actor.inputs, networks.actor.normalization)
        self.target_network = TargetNetwork(copied, shared=inputs)
        self._no_counts = {tag: torch.zeros(()) for tag in COUNTS}

    def learn(self, agent: Any, trajectory: Trajectory) -> dict[str, Tensor]:
        """Add a trajectory, and take the gradient steps that are due.

        Args:
            agent: one that also has `noise()`, `observe_targets(window, weights, noise)` and
                `measure(window, state_after)`; its losses are `losses(window, weights, noise)`.
        """
        # To a GPU goes what is read there: not every image that replay has to keep.
        is_read = self.keeps_state or agent.actor.normalization.learns
        seen = trajectory.to(agent.device) if is_read else trajectory
        self.replay.add(trajectory, self._states(agent.actor, seen))
        valid, first, device = trajectory.valid, trajectory.is_first[0], agent.device
        self.reward_scaling.observe(
            trajectory.rewards.to(device),
            first.to(device),
            trajectory.ended.to(device),
            valid.to(device),
        )
        steps = int(valid.sum())
        due, copies = self.clock.advance(steps, is_ready=self.replay.num_windows > 0)
        if copies:  # between blocks of gradient steps, never inside of one
            self.target_network.update(1.0)
        metrics = self._improve(agent, due) if due else self._no_counts
        agent.actor.observe(seen.step_observations, seen.valid)
        return metrics

    def _states(self, actor: Backbone, trajectory: Trajectory) -> Float[Tensor, "K B S"] | None:
        if not self.keeps_state:
            return None
        return states_on_stride(
            actor, trajectory, first_step=self.replay.cursor, stride=self._stride
        ).cpu()

    def _improve(self, agent: Any, due: int) -> dict[str, Tensor]:
        beta, step, device = (
            self.importance_exponent(agent.progress),
            agent.gradient_step,
            agent.device,
        )
        observed: dict[str, Tensor] = {}
        with agent.training_mode():
            for number in range(due):
                sample = self.replay.sample(
                    self._batch_size, agent.generator, importance_exponent=beta
                )
                window, weights = sample.window.to(device), sample.weights.to(device)
                inputs = (window, weights, agent.noise())
                if agent.networks.value_head.learns_support or (agent.is_watched and not number):
                    observed = agent.observe_targets(*inputs)
                result = step(*inputs)
                if result.priorities is not None:
                    self.replay.update(sample.starts, result.priorities.cpu())
                if self._polyak_rate < 1:
                    self.target_network.update(self._polyak_rate)
        report: dict[str, Tensor] = step.report()
        if not agent.is_watched:
            return report
        report |= observed | agent.measure(window, sample.state_after)
        report["replay/size"] = torch.tensor(float(self.replay.num_steps))
        report["replay/age"] = sample.age
        report["replay/importance_weight_min"] = sample.weights.min()
        if result.priorities is not None:
            report["schedule/importance_exponent"] = torch.tensor(beta)
            report["replay/priority_mean"] = result.priorities.mean()
            report["replay/priority_max"] = result.priorities.max()
        return report

    # ---- reading windows

    @property
    def target_head(self) -> ValueHead:
        """The target network's value head."""
        head = self.target_network.get_submodule("value_head")
        assert isinstance(head, ValueHead)
        return head

    def target_values(
        self, window: Trajectory, steps: ChosenSteps, noise: Tensor | None
    ) -> Float[Tensor, "L N A *K"]:
        """Return the target network's raw outputs at chosen steps of the windows."""
        backbone = self.target_network.get_submodule("backbone")
        assert isinstance(backbone, Backbone)
        summary = backbone.at(window.observations, window.state, window.is_first, steps)
        return self.target_head.forward(summary, noise)

    def burn_in_state(self, backbone: Backbone, window: Trajectory) -> Float[Tensor, "N S"]:
        """Return the memory before the steps that are learnt from, without a gradient.

        Source: Kapturowski et al. (2019), section 3.
        """
        if not self._burn_in:
            return window.state
        steps = slice(0, self._burn_in)
        with torch.no_grad():
            _, state = backbone.forward(
                map_observations(lambda part: part[steps], window.observations),
                window.state,
                window.is_first[steps],
            )
        return state

    def steps(self, window: Trajectory, *, needs_next: bool) -> Steps:
        """Cut out of windows what is learnt from."""
        learnt = self.learnt
        following = slice(learnt.start + 1, learnt.stop + 1)
        observations = window.observations
        return Steps(
            observations=map_observations(lambda part: part[learnt], observations),
            next_observations=(
                map_observations(lambda part: part[following], observations) if needs_next else None
            ),
            is_first=window.is_first[learnt],
            actions=window.actions[learnt],
            valid=~window.is_first[following],
        )

    def priorities(
        self, errors: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"]
    ) -> Float[Tensor, " N"] | None:
        """Return new priorities of windows; None where the replay has none."""
        if not self.replay.uses_priorities:
            return None
        return sequence_priorities(errors, valid, max_share=self._max_share)


def _sampler(options: Any) -> Sampler:
    if options.prioritized:
        return PrioritizedSampler(priority_exponent=options.priority_exponent)
    return UniformSampler()


class UpdateClock(nn.Module):
    """Says what is due after environment steps: gradient steps, copies of the target network.

    There are `replay_ratio` gradient steps for each environment step. Fractions are carried over,
    whatever the number of environments, and nothing is made up for: steps taken before learning
    started are not counted. Its counts travel in checkpoints, so that a run that goes on takes the
    steps that it would have taken.

    Args:
        learning_starts: environment steps before the first gradient step.
        replay_ratio: gradient steps per environment step.
        target_update_interval: environment steps between copies; None where there are none.
    """

    counts: Tensor

    def __init__(
        self, *, learning_starts: int, replay_ratio: float, target_update_interval: int | None
    ) -> None:
        """Start at nothing."""
        super().__init__()
        self._learning_starts, self._ratio = learning_starts, replay_ratio
        self._interval = target_update_interval
        # Environment steps so far and before learning started; gradient steps.
        self.register_buffer("counts", torch.zeros(3, dtype=torch.int64))

    def _apply(self, fn: Any, recurse: bool = True) -> "UpdateClock":
        """Stay in CPU memory: whoever asks is there, and would wait for a GPU."""
        return self

    @property
    def updates(self) -> int:
        """Gradient steps taken so far."""
        return int(self.counts[2])

    def advance(self, env_steps: int, *, is_ready: bool) -> tuple[int, bool]:
        """Count environment steps; return the gradient steps due and whether to copy before them.

        A copy is due where a multiple of the interval was reached. Several reached at once are one
        copy: the network has not changed in between.

        Args:
            is_ready: whether there is anything to learn from yet.
        """
        before, base, updates = self.counts.tolist()
        taken = before + env_steps
        if taken < self._learning_starts or not is_ready:
            base = taken
        # Against 3 * 0.1 < 0.3 and the like.
        due = math.floor((taken - base) * self._ratio + 1e-6)
        due = max(due, updates)
        self.counts.copy_(torch.tensor([taken, base, due]))
        every = self._interval
        return due - updates, every is not None and taken // every > before // every


class TargetNetwork(nn.Module):
    """A copy of modules that takes no gradient and is moved towards them by `update` alone.

    Args:
        modules: by name; the copies are attributes of the same names.
        shared: modules inside that are not copied but one and the same: how inputs are scaled.

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning"; Lillicrap
    et al. (2016), arXiv:1509.02971, section 3, for the slow form.
    """

    def __init__(self, modules: Mapping[str, nn.Module], *, shared: Iterable[nn.Module]) -> None:
        """Copy the modules as they are."""
        super().__init__()
        self._originals = dict(modules)  # in a dictionary, so that they are no part of this one
        memo = {id(module): module for module in shared}
        for name, module in copy.deepcopy(self._originals, memo).items():
            self.add_module(name, module)
        for own, _ in self._parameters_in_pairs():
            own.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "TargetNetwork":
        """Stay as in acting: targets are no place for dropout."""
        return super().train(False)

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """Move towards the originals, `own <- own + rate * (original - own)`; 1 copies.

        What is no parameter (statistics of a batch normalisation, the limits of a histogram) is
        copied: it has no slow form.
        """
        parameters = list(self._parameters_in_pairs())
        if parameters:
            own, originals = map(list, zip(*parameters, strict=True))
            if rate == 1:
                torch._foreach_copy_(own, originals)
            else:
                torch._foreach_lerp_(own, originals, rate)
        for buffer, original in self._buffers_in_pairs():
            buffer.copy_(original)

    def _parameters_in_pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        for name, original in self._originals.items():
            own = self.get_submodule(name).parameters()
            yield from _distinct(own, original.parameters())

    def _buffers_in_pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        for name, original in self._originals.items():
            yield from _distinct(self.get_submodule(name).buffers(), original.buffers())


def _distinct(
    own: Iterable[Tensor], originals: Iterable[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pair tensors, leaving out those that both have in common."""
    return (pair for pair in zip(own, originals, strict=True) if pair[0] is not pair[1])


@torch.no_grad()
def states_on_stride(
    backbone: Backbone, trajectory: Trajectory, *, first_step: int, stride: int
) -> Float[Tensor, "K B S"]:
    """Return the memory before those steps of a trajectory that lie on a stride.

    The weights have not moved since it was collected: reading it once more makes the states that
    acting had.

    Args:
        first_step: number of the trajectory's first step, counted from the beginning.
        stride: divides the length of trajectories, or is a multiple of it.
    """
    length = len(trajectory.rewards)
    if first_step % stride:
        return trajectory.state.new_zeros(0, *trajectory.state.shape)
    if stride >= length:
        return trajectory.state[None]
    _, states, _ = backbone.memory.unroll(
        backbone.features(trajectory.step_observations),
        trajectory.state,
        trajectory.is_first[:-1],
        sequence_length=stride,
    )
    return states


def sequence_priorities(
    errors: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"], *, max_share: float
) -> Float[Tensor, " N"]:
    """Weigh the largest error of a sequence and their mean, over valid steps.

        p = share * max_t |delta_t| + (1 - share) * mean_t |delta_t|

    A single step's is its error. What is not finite counts as nothing: it is not drawn again.

    Source: Kapturowski et al. (2019), "Recurrent experience replay", section 2.3; Schaul et al.
    (2016), arXiv:1511.05952.
    """
    kept = torch.where(valid & errors.isfinite(), errors, 0.0)
    mean = kept.sum(0) / valid.sum(0).clamp(min=1)
    return max_share * kept.amax(0) + (1 - max_share) * mean
