"""Base class of agents: acting with a memory, learning from trajectories, random numbers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar, cast

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.learning.behaviour import ArrayFlags, ArrayState, Behaviour
from agents.learning.gradient_step import GradientStep, Losses
from agents.learning.learner import Learner
from agents.learning.optimizer import Optimizer
from agents.learning.parts import Networks, routes
from agents.learning.schedules import Schedule
from agents.replay.replay import Replay
from agents.trajectory import Trajectory
from conf.schema.layout import command, is_ours
from networks import ranks
from networks.autoencoding.autoencoder import Autoencoder
from networks.autoencoding.losses import AuxiliaryLoss
from networks.heads.acting import uniform_actions
from networks.heads.greedy import EpsilonGreedyHead
from networks.layers import BatchRenorm
from networks.memory.memories import Memory
from networks.mirror import Array, array_of, can_mirror, mirror_of
from networks.normalization import RewardClipping, RewardScaling
from networks.observations import Arrays, map_observations, mask_of, share_of

_ALWAYS_ALIKE = (
    nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.Identity, nn.Flatten,
    nn.Linear,
    nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
    nn.LayerNorm, nn.GroupNorm,
    nn.Tanh, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Sigmoid,
)  # fmt: skip

Result = TypeVar("Result")


def _is_alike(module: nn.Module) -> bool:
    if isinstance(module, nn.RNNBase):
        # On a GPU they have gradients in training mode only.
        return not module.dropout and all(p.device.type == "cpu" for p in module.parameters())
    if type(module) in _ALWAYS_ALIKE:
        return True
    # Of this project, batch statistics depend on the mode, and losses on features may sample.
    depends = isinstance(module, AuxiliaryLoss | Autoencoder | BatchRenorm)
    return is_ours(type(module).__module__) and not depends


ActorMirror = Callable[[Arrays, Array, Array, Array | None], tuple[Array, Array]]
"""`observations, state, is_first, noise -> actions, state`."""


@dataclass(frozen=True)
class Setup:
    """Arguments of an agent besides its networks and options.

    Attributes:
        optimizer: makes the optimizer of the networks' parts, given those that some gradient steps
            do not train.
        gradients: overrides of the losses that train a part, by the part's path.
        generator: the only source of randomness in acting and learning.
        compile: trace the gradient step with `torch.compile`.
        num_envs: environments per trajectory, B.
        sequence_length: steps of a training sequence, 1 without a memory.
        reward_scaling: applied to rewards before learning; None for none.
        observations: their space.
        frame_stacks: number of frames of each part of an observation that is a frame stack; the
            name "" means an observation without parts.
    """

    optimizer: Callable[[Networks, Collection[str]], Optimizer]
    gradients: Mapping[str, Sequence[str]]
    generator: np.random.Generator
    compile: bool
    num_envs: int
    sequence_length: int
    reward_scaling: RewardScaling | RewardClipping | None
    observations: gymnasium.Space[Any]
    frame_stacks: Mapping[str, int]


class Agent(nn.Module, ABC):
    """An actor (backbone and policy head) and its learning algorithm.

    A subclass names its losses in `trains`, computes them in `losses` and chooses a learner.
    `state_dict()`, `generator` and `experience()` hold everything that an exact resume needs.

    Attributes:
        Options: dataclass of the agent's options, which is the schema of its YAML.
        trains: the parts that each loss trains, by path (`agents.learning.parts`).
        critic_trains_shared: whether a shared backbone is trained by the critic's loss, but not by
            the actor's.
        acts_by_values: whether it acts by action values; else it has a policy and state values.
        may_stop: whether a loss can end the updates on a rollout early.
        delays: gradient steps from one to the next that computes a loss, by the loss's name; 1 for
            others.
        due: the losses that the next gradient step computes.
        uniform_steps: environment steps of training before which actions are uniformly random.
        is_warming_up: whether they are now; never in evaluation.
        learner: turns trajectories into gradient steps.
        schedules: coefficients that depend on progress, passed to `losses` by name.
        epsilon: probability of a random action by progress, for agents that act by values.
        behaviour: the policy that acts in training instead of this one.
        evaluated: the policies that an evaluation plays; on the steps of `behaviour` it measures
            `held_out`. The first one's returns count.
        minimizes: the measure whose smallest value is the best; None: the largest return is.
        env_steps: environment steps taken, set by the training loop.
        progress: `env_steps / total_env_steps`, set by the training loop and read by schedules.
        is_watched: whether the metrics of `learn` are used, set by the training loop. If not,
            `learn` may return only `update/steps` and `update/skipped`.
    """

    Options: ClassVar[type]
    trains: ClassVar[Mapping[str, Sequence[str]]]
    acts_by_values: ClassVar[bool] = False
    critic_trains_shared: ClassVar[bool] = False
    may_stop = False
    delays: Mapping[str, int] = MappingProxyType({})
    uniform_steps = 0
    is_warming_up = False
    learner: Learner
    epsilon: Schedule | None = None
    behaviour: Behaviour | None = None
    evaluated: ClassVar[tuple[Literal["policy", "behaviour"], ...]] = ("policy",)
    minimizes: ClassVar[str | None] = None

    def __init__(self, networks: Networks, setup: Setup) -> None:
        super().__init__()
        self.networks = networks
        self.actor, self.policy_head = networks.actor, networks.policy_head
        self.auxiliary = networks.auxiliary
        if not networks.shares_backbone:
            self.critic = networks.critic
        if not networks.acts_by_values:
            self.value_head = networks.value_head
        for name, module in networks.own.items():
            self.add_module(name, module)
        trains = self.trains
        if networks.shares_backbone and self.critic_trains_shared:
            trains = {**trains, "actor": ("policy_head",)}
        self.routes = routes(networks, trains, setup.gradients)
        for part, losses in self.routes.items():
            if not losses:  # frozen: no weight decay either
                networks.parts()[part].requires_grad_(False)
        backbones = networks.backbones.values()
        self._frozen_for_a_while = tuple(b for b in backbones if 0 < b.frozen_until < math.inf)
        delayed = {
            part for part, losses in self.routes.items() if losses and {*losses} <= {*self.delays}
        }
        self.optimizer = setup.optimizer(networks, delayed)
        self.generator = setup.generator
        self.schedules: dict[str, Schedule] = {}
        self.env_steps = 0
        self.progress = 0.0
        self.is_watched = True
        self.due = tuple(self.trains)
        self._compile = setup.compile
        self.gradient_step = GradientStep(self, compile=setup.compile)
        self.eval()  # training mode (dropout) in gradient steps only

    @classmethod
    def own_parts(cls, options: Any) -> dict[str, nn.Module]:
        """Make the parts that only this algorithm has, by path."""
        return {}

    @abstractmethod
    def losses(self, *inputs: Any, **scheduled: Any) -> Losses:
        """Compute the losses of one batch, without data-dependent control flow."""

    def learn(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Learn from a trajectory on the CPU; return metrics by TensorBoard tag, 0-d tensors."""
        for backbone in self._frozen_for_a_while:
            if backbone.is_frozen and backbone.unfreeze(self.env_steps):
                self.gradient_step.renew()
                self.learner.renew()
        self.gradient_step.begin(self.progress, self.env_steps, measures=self.is_watched)
        metrics = self.learner.learn(self, trajectory)
        if ranks.size() == 1 or not self.is_watched:
            return metrics
        values = torch.stack([value.float().to(self.device) for value in metrics.values()])
        return dict(zip(metrics, ranks.average(values).cpu(), strict=True))

    # ---- called by a replay learner

    def noise(self) -> Any:
        """Draw the randomness of a gradient step, for `losses` and `targets`."""

    def targets(self, window: Trajectory, noise: Any) -> Float[Tensor, "L N"] | None:
        """Return the targets of the learnt steps' values; None for losses without targets."""

    def measure(self, window: Trajectory, state_after: Tensor | None) -> dict[str, Tensor]:
        """Compute further metrics on windows."""
        return {}

    # ----

    def held_out(self, trajectory: Trajectory) -> dict[str, Float[Tensor, " N"]]:
        """Measure the valid steps of `behaviour` in an evaluation, one number for each."""
        return {}

    def experience(self) -> Replay | None:
        """Return the replay buffer; None for on-policy agents."""
        return self.learner.replay

    @property
    def measures(self) -> bool:
        """Whether `losses` computes metrics; always in a compiled step, where they cost nothing."""
        return self._compile or self.is_watched

    def choose_losses(self, step: int) -> None:
        """Set `due` for the gradient step with this number, counted from 1."""
        if self.delays:
            self.due = tuple(n for n in self.trains if step % self.delays.get(n, 1) == 0)

    def scheduled(self) -> dict[str, Float[Tensor, ""]]:
        """Return the current values of `schedules`."""
        return {
            name: torch.tensor(schedule(self.progress), device=self.device)
            for name, schedule in self.schedules.items()
        }

    def update_progress(self, env_steps: int, *, total_env_steps: int) -> None:
        """Update progress and epsilon for the current environment step."""
        self.env_steps, self.progress = env_steps, env_steps / total_env_steps
        if self.uniform_steps:
            self.is_warming_up = env_steps < self.uniform_steps
        if self.epsilon is not None:
            cast("EpsilonGreedyHead", self.policy_head).set_epsilon(self.epsilon(self.progress))

    @cached_property
    def is_alike_in_learning(self) -> bool:
        """Whether training mode and evaluation mode compute the same, without dropout or sampling.

        Then switching modes, which visits every module, is skipped. Unknown classes, such as a
        user's own, are assumed to differ.
        """
        return all(map(_is_alike, self.modules()))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by part, including frozen ones; each belongs to exactly one part."""
        return {part: list(m.parameters()) for part, m in self.networks.parts().items()}

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.optimizer.flat.device

    def initial_state(self, batch_size: int) -> ArrayState:
        """Return the actor's initial memory state."""
        state: Array = array_of(self.actor.memory.initial_state(batch_size).cpu()).copy()
        return state

    def act(
        self, observations: Arrays, state: ArrayState, is_first: ArrayFlags, *, explore: bool
    ) -> tuple[Array, ArrayState]:
        """Choose one action `[B, *A]` per environment and advance the memory.

        Acting is on arrays, as environments are. Actions are in the policy's own units, for
        `policy_head.to_environment`.

        Args:
            observations: of shares for two readers, only the actor's is read. Of actions that a
                mask tells to be illegal none is chosen.
            explore: sample the policy; otherwise take its most probable action.

        Raises:
            RuntimeError: it is being traced. Arrays would become constants of the trace.
        """
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            remedy = f"trace Policy.module(), or write the policy to a file: {command('export')}"
            raise RuntimeError(f"act and predict compute in numpy, which is not traced; {remedy}")
        mask, head, size = mask_of(observations), self.policy_head, len(is_first)
        observations = share_of(observations, "actor")
        noise = head.noise(self.generator, size) if explore else None
        if mask is not None:
            noise = head.mask_noise(noise, head.legal_array(mask), self.generator)
        mirror = self._mirror
        if mirror is None:
            actions, after = self._act_in_torch(observations, state, is_first, noise)
        else:
            actions, after = mirror(observations, state, is_first, noise)
            if after is not state and after.base is not None:
                after = after.copy()  # a view would keep every earlier state alive
        if explore and self.is_warming_up:
            actions = uniform_actions(head, mask, self.generator, size)
        return actions, after

    @torch.no_grad()  # not inference_mode: learning uses the states later
    def _act_in_torch(
        self, observations: Arrays, state: Array, is_first: Array, noise: Array | None
    ) -> tuple[Array, Array]:
        device = self.device

        def row(array: Array) -> Tensor:
            return torch.from_numpy(array)[None].to(device)

        before = torch.from_numpy(state).to(device)
        summary, after = self.actor(map_observations(row, observations), before, row(is_first))
        distribution = self.policy_head(summary[0])
        if noise is None:
            actions = distribution.mode()
        else:
            actions = distribution.sample(torch.from_numpy(noise).to(device))
        return array_of(actions.cpu()), state if after is before else array_of(after.cpu()).copy()

    @cached_property
    def _mirror(self) -> ActorMirror | None:
        """Numpy form of actor and policy head; None if a part has none."""
        if not (can_mirror(self.actor) and can_mirror(self.policy_head)):
            return None
        backbone, head = mirror_of(self.actor), mirror_of(self.policy_head)
        if backbone is None or head is None:
            return None

        def act(
            observations: Arrays, state: Array, is_first: Array, noise: Array | None
        ) -> tuple[Array, Array]:
            summary, after = backbone(observations, state, is_first)
            return head(summary, noise), after

        return act

    @contextmanager
    def training_mode(self) -> Iterator[None]:
        """Enable training mode (dropout) for gradient steps, seeded by the agent's generator."""
        # Always drawn, so that dropout does not change any other random number.
        seed = int(self.generator.integers(2**63))
        if self.is_alike_in_learning:
            yield
            return
        device = self.device
        on_cuda = device.type == "cuda"
        with torch.random.fork_rng(devices=[device] if on_cuda else []):
            torch.default_generator.manual_seed(seed)
            if on_cuda:  # CUDA has its own generator
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            self.train()
            try:
                yield
            finally:
                self.eval()

    @torch.no_grad()
    def detached(self, compute: Callable[..., Result], *inputs: Any) -> Result:
        """Compute targets in a gradient step: without gradient, in evaluation mode."""
        is_switched = self.training and not self.is_alike_in_learning
        if is_switched:
            self.train(False)
        result = compute(*inputs)
        if is_switched:
            self.train(True)
        return result

    @contextmanager
    def using(self, generator: np.random.Generator) -> Iterator[None]:
        """Use another generator temporarily, so that evaluation does not change training."""
        kept, self.generator = self.generator, generator
        was_warming_up, self.is_warming_up = self.is_warming_up, False
        try:
            yield
        finally:
            self.generator, self.is_warming_up = kept, was_warming_up

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy (`copy.deepcopy`) that shares no storage with the original."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._renew()

    def _apply(self, fn: Any, recurse: bool = True) -> "Agent":
        """Move tensors (`to`, `float`, ...) and rebuild what refers to the old storage."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._renew()
        return self

    def _renew(self) -> None:
        self.gradient_step.renew()
        for cached in ("_mirror", "is_alike_in_learning"):
            self.__dict__.pop(cached, None)
        for module in self.modules():
            if isinstance(module, Optimizer):
                module.repack()
            elif isinstance(module, Memory):
                # Compiling has bound it to the module that was compiled, which a copy is not.
                module.__dict__.pop("forward", None)
            elif isinstance(module, Learner):
                module.renew()
