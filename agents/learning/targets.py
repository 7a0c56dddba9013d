"""What the values of actions are to become: one step, n steps, plain or double, of any head."""

import copy
from collections.abc import Iterable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.learning.parts import ActionValues, Noise, taken
from agents.learning.replay_learner import Windows
from agents.mathematics.returns import Bootstrap, n_step_bootstrap
from agents.trajectory import Trajectory
from networks.backbone import Backbone
from networks.heads.values import ValueHead, ValueScale
from networks.memory.memories import ChosenSteps
from networks.normalization import NoRewardScaling, RewardClipping, RewardScaling
from networks.observations import map_observations


class TargetNetwork(nn.Module):
    """A copy of modules that follows them from afar and takes no gradient.

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
    def follow(self, rate: float) -> None:
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


class QTarget(nn.Module):
    """Targets of Q-learning on windows of the stream, from a slow copy of the networks.

        G_t = r_t + d r_{t+1} + ... + d^k Q'(o_{t+k}, argmax_a Q(o_{t+k}, a))

    Q' is the copy; Q, which chooses, is the copy as well or, with `double_q`, the network itself
    (van Hasselt et al. 2016, arXiv:1509.06461). What Q' says of a whole distribution, the value
    head makes a distribution of.

    Both begin a window with the memory that acting had there: the copy is an earlier state of what
    acted, and a memory that began empty would know nothing of the episode so far.

    Args:
        reward_scaling: of sampled rewards, which replay keeps raw.
        scale: of values (Kapturowski et al. 2019, section 2.3).
        n_step: rewards summed before a value takes their place.
    """

    def __init__(
        self,
        networks: ActionValues,
        *,
        windows: Windows,
        reward_scaling: RewardScaling | RewardClipping | NoRewardScaling,
        scale: ValueScale,
        discount: float,
        n_step: int,
        double_q: bool,
    ) -> None:
        """Copy the networks."""
        super().__init__()
        self._networks, self._learnt = networks, windows.learnt
        self.reward_scaling, self.scale = reward_scaling, scale
        self.discount, self.n_step, self.double_q = discount, n_step, double_q
        self.network = TargetNetwork(
            {"backbone": networks.actor, "value_head": networks.value_head},
            shared=[networks.actor.inputs, networks.actor.normalization],
        )

    @torch.no_grad()
    def forward(
        self, window: Trajectory, state: Float[Tensor, "N S"], noise: Noise
    ) -> Float[Tensor, "..."]:
        """Return what the value head is to be fitted to, at every step that is learnt from.

        Args:
            state: the network's memory before the first of them.
            noise: of the copy's layers, and of the network's where it chooses.
        """
        bootstrap, following = self._following(window, state, noise)
        return self._networks.value_head.target(
            bootstrap.rewards, bootstrap.discounts, following, self.scale
        )

    @torch.no_grad()
    def observe(
        self, window: Trajectory, state: Float[Tensor, "N S"], noise: Noise
    ) -> dict[str, Float[Tensor, ""]]:
        """Let the heads learn the range of their targets, before a gradient step on them."""
        bootstrap, following = self._following(window, state, noise)
        values = self.scale.inverse(self._networks.value_head.value(following))
        targets = self.scale(bootstrap.rewards + bootstrap.discounts * values)
        valid = window.valid[self._learnt]
        self._head.observe(targets, valid)
        return self._networks.value_head.observe(targets, valid)

    def read(
        self, window: Trajectory, steps: ChosenSteps, noise: Tensor | None
    ) -> Float[Tensor, "L N A *K"]:
        """Return the copy's raw outputs at chosen steps of the windows."""
        backbone = self.network.get_submodule("backbone")
        assert isinstance(backbone, Backbone)
        summary = backbone.at(window.observations, window.state, window.is_first, steps)
        return self._head.forward(summary, noise)

    @property
    def _head(self) -> ValueHead:
        head = self.network.get_submodule("value_head")
        assert isinstance(head, ValueHead)
        return head

    def _following(
        self, window: Trajectory, state: Float[Tensor, "N S"], noise: Noise
    ) -> tuple[Bootstrap, Float[Tensor, "L N *K"]]:
        """Return where each step's episode goes on, and the copy's output for the action there."""
        networks, first = self._networks, self._learnt.start
        bootstrap = n_step_bootstrap(
            self.reward_scaling(window.rewards),
            window.terminated,
            window.truncated,
            first=first,
            length=self._learnt.stop - first,
            n_step=self.n_step,
            discount=self.discount,
        )
        outputs = choosing = self.read(window, bootstrap.steps, noise[1])
        if self.double_q:
            summary = networks.actor.at(
                map_observations(lambda part: part[first:], window.observations),
                state,
                window.is_first[first:],
                bootstrap.steps_from(first),
            )
            choosing = networks.value_head(summary, noise[2])
        actions = networks.value_head.value(choosing).argmax(-1)
        return bootstrap, taken(outputs, actions)
