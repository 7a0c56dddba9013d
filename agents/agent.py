"""What every agent is: it acts with a memory, learns from trajectories, owns its random numbers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from agents.learning.gradient_step import GradientStep, Losses
from agents.learning.optimizer import Optimizer
from agents.learning.parts import Networks, routes
from agents.learning.replay_learner import ReplayLearner, TargetNetwork
from agents.learning.rollout_learner import RolloutLearner
from agents.learning.schedules import Schedule
from agents.trajectory import Trajectory
from networks.autoencoding.losses import AuxiliaryLoss
from networks.heads.greedy import EpsilonGreedyHead
from networks.memory.memories import Memory
from networks.mirror import Array, can_mirror
from networks.normalization import RewardClipping, RewardScaling
from networks.observations import Observations, map_observations


@runtime_checkable
class Experience(Protocol):
    """Experience that grows to a size which no checkpoint could hold anew each time.

    Most of it lies in chunks: stretches that never change once they are full. A checkpoint writes a
    chunk once and names it from then on, so its cost is that of what is new.
    """

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the small part that changes all the time: tensors, and what JSON can hold."""
        ...

    def chunks(self) -> Mapping[str, Callable[[], Mapping[str, Tensor]]]:
        """Return the chunks that are held now, by name, each as what reads its tensors.

        A name (letters, digits, `_` and `-`) stands for the same content for ever; the newest
        chunk, not full yet, has one that says where it ends.
        """
        ...

    def load(
        self,
        tensors: Mapping[str, Tensor],
        state: Mapping[str, Any],
        chunks: Mapping[str, dict[str, Tensor]],
    ) -> None:
        """Become what was saved.

        Args:
            chunks: read from the disk whenever one is looked up; go through them one at a time.
        """
        ...


_ALWAYS_ALIKE = (
    nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity, nn.Flatten, nn.Linear,
    nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
    nn.LayerNorm, nn.GroupNorm,
    nn.Tanh, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Sigmoid,
)  # fmt: skip
_OURS = ("agents.", "networks.")


def _is_alike(module: nn.Module) -> bool:
    if isinstance(module, nn.RNNBase):
        # On a GPU their gradient is only there in training mode.
        return not module.dropout and all(p.device.type == "cpu" for p in module.parameters())
    if type(module) in _ALWAYS_ALIKE:
        return True
    # None of ours reads its mode; auxiliary losses may draw.
    return type(module).__module__.startswith(_OURS) and not isinstance(module, AuxiliaryLoss)


ActorMirror = Callable[[Array | dict[str, Array], Array, Array, Array | None], tuple[Array, Array]]


@dataclass(frozen=True)
class Setup:
    """What an agent is given beside its networks and its own options.

    Attributes:
        optimizer: makes the optimizer of the networks' parts.
        gradients: the losses that may train a part, by path, where the agent is to be narrowed.
        generator: the only source of randomness in acting and learning.
        compile: trace the gradient step with `torch.compile`.
        num_envs: environments per trajectory, B.
        sequence_length: steps of a training sequence, 1 without a memory.
        reward_scaling: of the rewards that are learnt from; None for none.
        frame_stacks: size of each part of an observation that is a stack of frames.
    """

    optimizer: Callable[[Networks], Optimizer]
    gradients: Mapping[str, Sequence[str]]
    generator: np.random.Generator
    compile: bool
    num_envs: int
    sequence_length: int
    reward_scaling: RewardScaling | RewardClipping | None
    frame_stacks: Mapping[str, int]


class Agent(nn.Module, ABC):
    """An actor (backbone and policy head) and a rule by which it learns.

    A concrete agent names its losses in `trains`, computes them in `losses`, and chooses a learner.
    What learning needs to go on exactly is in `state_dict()`, in `generator` or in `experience()`.

    Attributes:
        Options: dataclass of the agent's own numbers, and the schema of its YAML.
        trains: the parts that each of its losses trains, by path (`agents.learning.parts`).
        acts_by_values: whether it chooses the action of the largest value; else it has a policy
            and the values of observations.
        may_stop: whether a loss can end the steps on a rollout.
        learner: turns trajectories into gradient steps.
        schedules: numbers that move with the run's progress, given to `losses` by name.
        epsilon: share of random actions over the run's progress, of agents that act by values.
        env_steps: environment steps taken, set by the loop.
        progress: their share of the run's, set by the loop; schedules read it.
        is_watched: whether anybody reads what `learn` returns, set by the loop; else it may leave
            out all but `update/steps` and `update/skipped`.
    """

    Options: ClassVar[type]
    trains: ClassVar[Mapping[str, Sequence[str]]]
    acts_by_values: ClassVar[bool] = False
    may_stop = False
    learner: RolloutLearner | ReplayLearner
    epsilon: Schedule | None = None

    def __init__(self, networks: Networks, setup: Setup) -> None:
        super().__init__()
        self.networks = networks
        self.actor, self.policy_head = networks.actor, networks.policy_head
        self.auxiliary = networks.auxiliary
        if not networks.shares_backbone:
            self.critic = networks.critic
        if not networks.acts_by_values:
            self.value_head = networks.value_head
        self.routes = routes(networks, self.trains, setup.gradients)
        for part, losses in self.routes.items():
            if not losses:  # it stays as it is, weight decay included
                networks.parts()[part].requires_grad_(False)
        backbones = networks.backbones.values()
        self._frozen_for_a_while = tuple(b for b in backbones if 0 < b.frozen_until < math.inf)
        self.optimizer = setup.optimizer(networks)
        self.generator = setup.generator
        self.schedules: dict[str, Schedule] = {}
        self.env_steps = 0
        self.progress = 0.0
        self.is_watched = True
        self._compile = setup.compile
        self.gradient_step = GradientStep(self, compile=setup.compile)
        self._mirror: ActorMirror | None = None
        self._mirror_is_current = False
        self.eval()  # dropout and the like are on in gradient steps only

    @abstractmethod
    def losses(self, *inputs: Any, **scheduled: Any) -> Losses:
        """Compute the losses of one batch: a function of tensors, without a branch on data."""

    def learn(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Improve from T steps of experience on the CPU; return TensorBoard tags, 0-d tensors."""
        for backbone in self._frozen_for_a_while:
            if backbone.is_frozen and backbone.unfreeze(self.env_steps):
                self.gradient_step.renew()
        self.gradient_step.begin(self.progress, self.env_steps, measures=self.is_watched)
        return self.learner.learn(self, trajectory)

    def experience(self) -> Experience | None:
        """Return what is learnt from again and again; None where experience is used up at once."""
        return self.learner.replay if isinstance(self.learner, ReplayLearner) else None

    @property
    def measures(self) -> bool:
        """Whether `losses` computes metrics; compiled they cost nothing, and there is one step."""
        return self._compile or self.is_watched

    def scheduled(self) -> dict[str, Float[Tensor, ""]]:
        """Return the present values of `schedules`."""
        return {
            name: torch.tensor(schedule(self.progress), device=self.device)
            for name, schedule in self.schedules.items()
        }

    def update_progress(self, env_steps: int, *, total_env_steps: int) -> None:
        """Say how much of the run is over, before acting from there."""
        self.env_steps, self.progress = env_steps, env_steps / total_env_steps
        if self.epsilon is not None:
            cast("EpsilonGreedyHead", self.policy_head).set_epsilon(self.epsilon(self.progress))

    def weights_replaced(self) -> None:
        """Follow weights that came from elsewhere: a target network begins with them."""
        if isinstance(self.learner, ReplayLearner):
            self.learner.target_network.update(1.0)

    @cached_property
    def is_alike_in_learning(self) -> bool:
        """Whether neither dropout nor drawn numbers make learning differ from acting.

        Then switching modes, which visits every module, is spared. What is not known to be alike is
        taken to differ: a class of the user's may do anything.
        """
        return all(map(_is_alike, self.modules()))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by part, frozen ones too; each belongs to exactly one."""
        return {part: list(m.parameters()) for part, m in self.networks.parts().items()}

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.optimizer.flat.device

    def initial_state(self, batch_size: int) -> Float[Tensor, "B S"]:
        """Return the actor's memory before any observation, on the CPU beside the environments."""
        return self.actor.memory.initial_state(batch_size).detach().cpu().clone()

    def act(
        self,
        observations: Shaped[Tensor, "B *O"] | dict[str, Shaped[Tensor, "B ..."]],
        state: Float[Tensor, "B S"],
        is_first: Bool[Tensor, " B"],
        *,
        explore: bool,
    ) -> tuple[Shaped[Tensor, "B *A"], Float[Tensor, "B S"]]:
        """Choose one action per environment, in the policy's own units, and advance the memory.

        Args:
            explore: sample the policy; otherwise take its most probable action.
        """
        noise = self.policy_head.noise(self.generator, len(is_first)) if explore else None
        if not self._mirror_is_current:
            self._mirror, self._mirror_is_current = self._build_mirror(), True
        if self._mirror is None:
            return self._act_in_torch(observations, state, is_first, noise)
        before = state.numpy()
        if isinstance(observations, Tensor):
            arrays: Any = observations.numpy()
        else:
            arrays = {name: part.numpy() for name, part in observations.items()}
        actions, after = self._mirror(arrays, before, is_first.numpy(), noise)
        if after is before:
            return torch.from_numpy(actions), state
        if after.base is not None:  # a view of the state before: step by step, all would live
            after = after.copy()
        return torch.from_numpy(actions), torch.from_numpy(after)

    def to_environment(self, actions: Tensor) -> Array:
        """Map the policy's actions to the environment's, as an array."""
        return self.policy_head.to_environment(actions.numpy())

    @torch.no_grad()  # and no inference mode: states go into learning later
    def _act_in_torch(
        self, observations: Observations, state: Tensor, is_first: Tensor, noise: Array | None
    ) -> tuple[Tensor, Tensor]:
        device = self.device
        stream = map_observations(lambda part: part[None].to(device), observations)
        summary, after = self.actor(stream, state.to(device), is_first[None].to(device))
        distribution = self.policy_head(summary[0])
        if noise is None:
            actions = distribution.mode()
        else:
            actions = distribution.sample(torch.from_numpy(noise).to(device))
        return actions.cpu(), after.cpu()

    def _build_mirror(self) -> ActorMirror | None:
        if not (can_mirror(self.actor) and can_mirror(self.policy_head)):
            return None
        backbone, head = self.actor.mirror(), self.policy_head.mirror()
        if backbone is None or head is None:
            return None

        def act(
            observations: Array | dict[str, Array],
            state: Array,
            is_first: Array,
            noise: Array | None,
        ) -> tuple[Array, Array]:
            summary, after = backbone(observations, state, is_first)
            return head(summary, noise), after

        return act

    @contextmanager
    def training_mode(self) -> Iterator[None]:
        """Switch dropout and the like on for gradient steps, on the agent's own randomness."""
        # Drawn in any case: a network with dropout leaves all other draws as they are.
        seed = int(self.generator.integers(2**63))
        if self.is_alike_in_learning:
            yield
            return
        device = self.device
        on_cuda = device.type == "cuda"
        with torch.random.fork_rng(devices=[device] if on_cuda else []):
            torch.default_generator.manual_seed(seed)
            if on_cuda:  # which draws there with a generator of its own
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            self.train()
            try:
                yield
            finally:
                self.eval()

    def set_mode(self, training: bool) -> None:
        """Switch dropout and the like inside of a gradient step: targets are those of acting."""
        if not self.is_alike_in_learning:
            self.train(training)

    @contextmanager
    def using(self, generator: np.random.Generator) -> Iterator[None]:
        """Draw from another generator for a while, so that evaluation never disturbs training."""
        kept, self.generator = self.generator, generator
        try:
            yield
        finally:
            self.generator = kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy (`copy.deepcopy`) that shares no storage with its original."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._renew()

    def _apply(self, fn: Any, recurse: bool = True) -> "Agent":
        """Move tensors (`to`, `float`, ...); what points at the old storage is made anew."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._renew()
        return self

    def _renew(self) -> None:
        self._mirror, self._mirror_is_current = None, False
        self.gradient_step.renew()
        self.__dict__.pop("is_alike_in_learning", None)
        for module in self.modules():
            # Compiling has bound some calls to the module that was compiled, which a copy is not.
            if isinstance(module, Optimizer):
                module.__dict__.pop("step", None)
                module.repack()
            elif isinstance(module, Memory):
                module.__dict__.pop("forward", None)
            elif isinstance(module, TargetNetwork):
                module.renew()
