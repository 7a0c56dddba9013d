"""What the values of actions are to become: one step, n steps, plain or double, of any head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.action_values import ActionValues, Noise, taken
from agents.off_policy import Windows
from agents.target_network import TargetNetwork
from agents.targets import Bootstrap, n_step_bootstrap
from agents.trajectory import Trajectory
from networks.backbone import Backbone
from networks.heads import ValueHead
from networks.memory import ChosenSteps
from networks.normalization import NoRewardScaling, RewardClipping, RewardScaling
from networks.observations import map_observations
from networks.value_scales import ValueScale


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
