"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv:1509.02971), with any memory."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent, Setup
from agents.learning.critics import Critics, Following
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.replay_learner import ReplayLearner, Weights
from agents.mathematics.losses import masked_mean
from agents.trajectory import Trajectory
from conf.schema.agents import DDPGOptions
from networks.heads.box import DeterministicHead
from networks.heads.values import Metrics


class DDPG(Agent):
    """Learns a deterministic policy and a critic of actions from replay.

        G_t = r_t + d Q'(o_{t+1}, mu'(o_{t+1}))
        L_critic = mean[(Q(o_t, a_t) - G_t)^2]
        L_actor = -mean[Q(o_t, mu(o_t))]

    mu' and Q' are the target networks. It explores with Gaussian noise on its actions.
    """

    Options = DDPGOptions
    trains: ClassVar = {"critic": ("critic", "value_head"), "actor": ("actor", "policy_head")}
    critic_trains_shared = True
    learner: ReplayLearner
    policy_head: DeterministicHead

    def __init__(self, networks: Networks, options: DDPGOptions, setup: Setup) -> None:
        super().__init__(networks, setup)
        self.uniform_steps = options.learning_starts
        self.policy_head.exploration_noise = options.exploration_noise
        self.learner = ReplayLearner(networks, options, setup, policy_delay=1)
        self.critics = Critics(networks, self.learner, subset=None, dropped=0)

    def losses(self, window: Trajectory, weights: Weights, noise: None) -> Losses:
        """Compute the losses of replayed windows, importance-weighted with prioritised replay."""
        critics = self.critics
        following = self.detached(self.following, window, noise)
        fitted = critics.fit(window, weights, following, measures=self.measures)
        read = fitted.read
        actions = self.policy_head(read.actor).mode()
        values = critics.first_value(read.critic.detach(), actions)
        actor = -masked_mean(values, fitted.valid)
        metrics = fitted.metrics | {"loss/policy": actor.detach()}
        losses = {"critic": fitted.loss, "actor": actor}
        return Losses(losses, metrics, read.readings, priorities=fitted.priorities)

    def following(self, window: Trajectory, noise: None) -> Following:
        """Return what the targets are computed from."""
        bootstrap = self.learner.bootstrap(window)
        actions = self.critics.target_policy(window, bootstrap.steps)
        return self.critics.following(window, bootstrap, actions, None)

    # ---- called by the replay learner

    def targets(self, window: Trajectory, noise: None) -> Float[Tensor, "L N"]:
        """Return the targets of the learnt steps' values."""
        return self.critics.targets(self.following(window, noise))

    def measure(self, window: Trajectory, state_after: Tensor | None) -> Metrics:
        """Compute `value/target_gap` and `policy/saturation` on windows."""
        return self.critics.measure(window)
