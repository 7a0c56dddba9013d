"""Critics of actions, learnt from replay: shared by DDPG, TD3 and SAC."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from agents.learning.parts import Networks
from agents.learning.replay_learner import ReplayLearner, Weights
from agents.mathematics.losses import errors_by_position, masked_mean, means, select_actions
from agents.mathematics.returns import Bootstrap
from agents.trajectory import Trajectory
from networks.autoencoding.losses import Reading
from networks.heads.critics import lowest
from networks.heads.values import Metrics
from networks.layers import BatchRenorm
from networks.memory.memories import ChosenSteps

Summary = Float[Tensor, "L N H"]
Actions = Shaped[Tensor, "L N *A"]
Outputs = Float[Tensor, "L N C *K"]
Subset = Int[Tensor, " M"] | None
"""Numbers of the critics whose minimum is the target; None for all."""

_SATURATED = 0.99


class Summaries(NamedTuple):
    """What actor and critics read of the learnt steps.

    Attributes:
        actor, critic: the same with a shared backbone.
        readings: inputs of auxiliary losses, by backbone.
    """

    actor: Summary
    critic: Summary
    readings: dict[str, Reading]


class Following(NamedTuple):
    """What the targets of a window are computed from, without gradient.

    Attributes:
        states: memory states before the learnt steps, by backbone.
        bootstrap: rewards, discounts and the steps that are bootstrapped from.
        chosen: the critics whose minimum is the target.
        outputs: the lowest target critic's there, values `[L, N]` or raw outputs; None without
            target networks.
        inputs: of the value head there; only without target networks.
    """

    states: dict[str, Float[Tensor, "N S"]]
    bootstrap: Bootstrap
    chosen: Subset
    outputs: Float[Tensor, "L N *K"] | None
    inputs: Float[Tensor, "L N I"] | None


class Fitted(NamedTuple):
    """The critics' loss on a window, and what it was computed from.

    Attributes:
        priorities: new priorities of the windows, with prioritised replay.
    """

    read: Summaries
    valid: Bool[Tensor, "L N"] | None
    loss: Float[Tensor, ""]
    metrics: Metrics
    priorities: Float[Tensor, " N"] | None


class Critics:
    """The critics of an agent and their target networks.

        Q_c(o_t, a) = value_head([summary(o_1 ... o_t), a])_c

    The action joins after the memory, so that a memory holds the actions that were taken only.

    Without target networks, the value head reads `(o_t, a_t)` and `(o_{t+1}, a')` in one forward
    pass, so that both are normalised by the same batch statistics (CrossQ, arXiv:1902.05605).

    Args:
        subset: critics whose minimum is the target, drawn anew for each gradient step; None: all
            (REDQ, arXiv:2101.05982).
        dropped: quantiles per critic; of all the critics' quantiles the highest are dropped and the
            rest are the target (TQC, arXiv:2005.04269); 0: the lowest critic is the target.
    """

    def __init__(
        self, networks: Networks, learner: ReplayLearner, *, subset: int | None, dropped: int
    ) -> None:
        self._networks, self._learner = networks, learner
        self._head, self._target_head = networks.value_head, learner.target_network.copies[1]
        self._subset, self._dropped = subset, dropped
        self._count, *has_every_action, _ = networks.value_head.layers.output_shape  # C, [A], K
        self._has_every_action = bool(has_every_action)
        self._is_joint = self._target_head is self._head
        self._norms = [m for m in self._head.modules() if isinstance(m, BatchRenorm)]

    def draw(self, generator: np.random.Generator) -> Subset:
        """Draw the critics whose minimum is the target of a gradient step."""
        if self._subset is None:
            return None
        chosen = generator.permutation(self._count)[: self._subset]
        return torch.from_numpy(chosen).to(next(self._head.parameters()).device)

    # ---- values

    def states(self, window: Trajectory) -> dict[str, Float[Tensor, "N S"]]:
        """Return every backbone's memory state before the learnt steps."""
        learner = self._learner
        return {name: learner.burn_in_state(window, name) for name in self._networks.backbones}

    def read(self, window: Trajectory, states: Mapping[str, Float[Tensor, "N S"]]) -> Summaries:
        """Apply the backbones to the learnt steps of a window."""
        actor, readings = self._learner.read(window, "actor", states["actor"])
        if self._networks.shares_backbone:
            return Summaries(actor, actor, readings)
        critic, own = self._learner.read(window, "critic", states["critic"])
        return Summaries(actor, critic, readings | own)

    def __call__(self, summary: Summary, actions: Actions, *, target: bool = False) -> Outputs:
        """Return every critic's raw output for actions."""
        head = self._target_head if target else self._head
        if self._has_every_action:
            return select_actions(head(summary).movedim(3, 2), actions)
        outputs: Tensor = head(self._inputs(summary, actions))
        return outputs

    def _inputs(self, summary: Summary, actions: Actions) -> Float[Tensor, "L N I"]:
        return torch.cat([summary, self._networks.policy_head.encode(actions)], -1)

    def values(self, summary: Summary, actions: Actions | None) -> Float[Tensor, "L N C *V"]:
        """Return every critic's values for the actor's loss: of actions, or of all discrete ones.

        Batch statistics are the running ones, which a policy's actions do not change.
        """
        with self._running_statistics():
            outputs = self._head(summary) if actions is None else self(summary, actions)
        return self._head.value(outputs)

    def first_value(self, summary: Summary, actions: Actions) -> Float[Tensor, "L N"]:
        """Return the first critic's value of continuous actions, like `values`."""
        head: Any = self._head
        with self._running_statistics():
            outputs = head.layers.first(self._inputs(summary, actions))
        value: Tensor = head.value(outputs.squeeze(-1) if head.is_scalar else outputs)[..., 0]
        return value

    @contextmanager
    def _running_statistics(self) -> Iterator[None]:
        for norm in self._norms:
            norm.eval()
        yield
        for norm in self._norms:
            norm.train(self._head.training)

    def lowest(self, outputs: Outputs, chosen: Subset) -> Float[Tensor, "L N *J"]:
        """Reduce the critics' outputs to one: the lowest critic's, or the lowest quantiles."""
        if chosen is not None:
            outputs = outputs.index_select(2, chosen)
        if not self._dropped:
            return lowest(self._target_head, outputs)
        quantiles = outputs.flatten(2).sort(-1).values
        return quantiles[..., : quantiles.shape[2] - outputs.shape[2] * self._dropped]

    # ---- their loss

    def target_policy(self, window: Trajectory, steps: ChosenSteps) -> Actions:
        """Return the target actor's most probable actions at chosen steps of the windows."""
        *_, actor, policy_head = self._learner.target_network.copies
        state = self._learner.first_state(window, "actor")
        summary = actor.at(window.observations, state, window.is_first, steps)
        actions: Tensor = policy_head(summary).mode()
        return actions

    def following(
        self, window: Trajectory, bootstrap: Bootstrap, actions: Actions, chosen: Subset
    ) -> Following:
        """Read the target critics for actions at the steps that are bootstrapped from."""
        states = self.states(window)
        summary = self._learner.target_summary(window, bootstrap.steps)
        if self._is_joint:
            inputs = self._inputs(summary, actions)
            return Following(states, bootstrap, chosen, outputs=None, inputs=inputs)
        lowest = self.lowest(self(summary, actions, target=True), chosen)
        return Following(states, bootstrap, chosen, outputs=lowest, inputs=None)

    def expected(
        self,
        window: Trajectory,
        bootstrap: Bootstrap,
        probabilities: Float[Tensor, "L N A"],
        chosen: Subset,
    ) -> Following:
        """Read the target critics for every discrete action, weighted by its probability."""
        head, states = self._target_head, self.states(window)
        values = head.value(head(self._learner.target_summary(window, bootstrap.steps)))
        if chosen is not None:
            values = values.index_select(2, chosen)
        outputs = (probabilities * values.amin(2)).sum(-1)
        return Following(states, bootstrap, chosen, outputs, inputs=None)

    def fit(
        self, window: Trajectory, weights: Weights, following: Following, *, measures: bool
    ) -> Fitted:
        """Compute the critics' loss, the sum over critics of the value head's mean loss.

        Args:
            measures: whether to compute metrics.
        """
        learner, head = self._learner, self._head
        read, valid = self.read(window, following.states), learner.valid(window)
        actions = window.actions[learner.learnt]
        later: Any = following.outputs
        if following.inputs is None:
            outputs = self(read.critic, actions)
        else:
            inputs = torch.cat([self._inputs(read.critic, actions), following.inputs])
            outputs, later = head(inputs).chunk(2)
            later = self.lowest(later.detach(), following.chosen)
        target = self._target(following.bootstrap, later)
        targets: Tensor = target.unsqueeze(2).expand(*outputs.shape[:3], *target.shape[2:])
        losses = head.loss(outputs, targets).sum(-1)
        loss = masked_mean(losses if weights is None else losses * weights, valid)
        metrics, priorities = {"loss/value": loss.detach()}, None
        if measures or learner.replay.uses_priorities:
            errors = head.error(outputs.detach(), targets).mean(-1)
            if learner.replay.uses_priorities:
                priorities = learner.priorities(errors, valid)
            if measures:
                metrics |= self._metrics(outputs.detach(), errors, valid)
        return Fitted(read, valid, loss, metrics, priorities)

    def _target(
        self, bootstrap: Bootstrap, later: Float[Tensor, "L N *K"]
    ) -> Float[Tensor, "L N *J"]:
        """Return `rewards + discounts * later`; of distributions, a distribution.

        Args:
            later: values `[L, N]`, or raw outputs.
        """
        rewards, discounts, _ = bootstrap
        if later.ndim == rewards.ndim:
            return rewards + discounts * later
        return self._head.target(rewards, discounts, later, None)

    def targets(self, following: Following) -> Float[Tensor, "L N"]:
        """Return the targets as values, from which histograms learn their support."""
        bootstrap = following.bootstrap
        values: Any = following.outputs
        if following.inputs is not None:
            values = self.lowest(self._head(following.inputs), following.chosen)
        if values.ndim > 2:
            values = self._head.value(values)
        return bootstrap.rewards + bootstrap.discounts * values

    # ---- metrics

    @torch.no_grad()
    def _metrics(
        self, outputs: Outputs, errors: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"] | None
    ) -> Metrics:
        """Return `value/mean`, `value/spread` (highest minus lowest critic), `value/td_error`."""
        values = self._head.value(outputs)
        spread = values.amax(-1) - values.amin(-1)
        mean, spread, error = means(valid, values.mean(-1), spread, errors)
        own = {"value/mean": mean, "value/spread": spread, "value/td_error": error}
        return own | errors_by_position(errors, valid)

    @torch.no_grad()
    def measure(self, window: Trajectory) -> Metrics:
        """Compute metrics on windows.

        Returns:
            `value/target_gap`, the mean absolute difference between the values of online and target
            critics; and with continuous actions `policy/saturation`, the share of the policy's
            modes within 0.01 of a bound.
        """
        learner = self._learner
        actions, read = window.actions[learner.learnt], self.read(window, self.states(window))
        online = self(read.critic, actions)
        there = self(learner.target_summary(window, learner.learnt), actions, target=True)
        gaps = (self._head.value(online) - self._target_head.value(there)).abs().mean(-1)
        metrics = {"value/target_gap": masked_mean(gaps, learner.valid(window))}
        if not self._has_every_action:
            modes = self._networks.policy_head(read.actor).mode()
            saturated = (modes.abs() > _SATURATED).float().mean(-1)
            metrics["policy/saturation"] = masked_mean(saturated, learner.valid(window))
        return metrics
