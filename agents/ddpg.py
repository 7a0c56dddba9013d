"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv:1509.02971), with any memory."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent, Setup
from agents.learning.critics import Critics, measure_critics, observe_critic_targets
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.replay_learner import ReplayLearner
from agents.mathematics.losses import masked_mean
from agents.mathematics.returns import Bootstrap
from agents.trajectory import Trajectory
from conf.schema.agents import DDPGOptions
from networks.heads.box import DeterministicHead


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
        copied = (networks.critic, networks.value_head, networks.actor, networks.policy_head)
        self.learner = ReplayLearner(networks, options, setup, copied=copied, updates_per_copy=1)
        self.critics = Critics(networks, self.learner, subset=None, dropped=0)

    def losses(
        self, window: Trajectory, weights: Float[Tensor, " N"] | None, noise: None
    ) -> Losses:
        """Compute the losses of replayed windows, importance-weighted with prioritised replay."""
        critics = self.critics
        states, bootstrap, following = self.detached(self.following, window, noise)
        fitted = critics.fit(
            window, weights, states, bootstrap, following, None, measures=self.measures
        )
        read = fitted.read
        actions = self.policy_head(read.actor).mode()
        values = critics.first_value(read.critic.detach(), actions)
        actor = -masked_mean(values, fitted.valid)
        metrics = fitted.metrics | {"loss/policy": actor.detach()}
        losses = {"critic": fitted.loss, "actor": actor}
        return Losses(losses, metrics, read.readings, priorities=fitted.priorities)

    def following(
        self, window: Trajectory, noise: None
    ) -> tuple[dict[str, Tensor], Bootstrap, Float[Tensor, "L N *K"]]:
        """Return memory states before the learnt steps, and the inputs of the targets."""
        learner, critics = self.learner, self.critics
        states, bootstrap = critics.states(window), learner.bootstrap(window)
        actions = critics.target_policy(window, bootstrap.steps)
        return states, bootstrap, critics.following(window, bootstrap.steps, actions, None)

    # ---- called by the replay learner

    observe_targets, measure = observe_critic_targets, measure_critics

    def noise(self) -> None:
        """No noise: the target policy is deterministic."""
