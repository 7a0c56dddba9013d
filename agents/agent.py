"""What every agent is: it acts with a memory, learns from trajectories, owns its random numbers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from agents.learning.optimizer import Optimizer
from agents.learning.parts import Networks
from agents.learning.schedules import Schedule
from agents.trajectory import Trajectory
from networks.autoencoding.losses import AuxiliaryLoss
from networks.memory.memories import Memory
from networks.mirror import Array, can_mirror
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


def is_alike_in_learning(module: nn.Module) -> bool:
    """Tell whether neither dropout nor drawn numbers make learning differ from acting.

    What is not known to be so is taken to differ: a class of the user's may do anything.
    """
    return all(map(_is_alike, module.modules()))


def _is_alike(module: nn.Module) -> bool:
    if isinstance(module, nn.RNNBase):
        # On a GPU their gradient is only there in training mode.
        return not module.dropout and all(p.device.type == "cpu" for p in module.parameters())
    if type(module) in _ALWAYS_ALIKE:
        return True
    # None of ours reads its mode; auxiliary losses may draw.
    return type(module).__module__.startswith(_OURS) and not isinstance(module, AuxiliaryLoss)


Step = TypeVar("Step", bound=Callable[..., object])


def compiled(step: Step, *, modules: Iterable[nn.Module]) -> Step:
    """Return `step` traced by `torch.compile`, compiled at its first call, for fixed shapes.

    Fused recurrent kernels stay as they are: Dynamo cannot trace them, and the number of null steps
    changes from batch to batch, which must not compile anything anew.

    Args:
        modules: everything that the step calls, at any depth.
    """
    import torch._dynamo

    # Lets autograd.grad be part of the graph: forward, backward, clipping and update become one.
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        torch._dynamo.config.trace_autograd_ops = True
    for module in modules:
        # Bound anew: a copied agent keeps no old wrapper.
        if isinstance(module, Memory) and not module.compilable:
            forward = type(module).forward.__get__(module)
            module.forward = torch.compiler.disable(forward)  # type: ignore[method-assign]
        if isinstance(module, Optimizer) and not module.compilable:
            step_of = type(module).step.__get__(module)
            module.step = torch.compiler.disable(step_of)  # type: ignore[method-assign]
    # Inductor's own tanh calls a library element by element; written with exp it is vectorised (a
    # quarter of a small network's gradient step, measured) and stays within 1e-7.
    traced: Any = torch.compile(step, dynamic=False, options={"cpp.use_decompose_tanh": True})
    return cast("Step", traced)


ActorMirror = Callable[[Array | dict[str, Array], Array, Array, Array | None], tuple[Array, Array]]


class Agent(nn.Module, ABC):
    """An actor (backbone and policy head) and a rule by which it learns.

    What learning needs to go on exactly is in `state_dict()`, in `generator` or in `experience()`.

    Args:
        compile: trace the gradient step with `torch.compile`.

    Attributes:
        generator: the only source of randomness in acting and learning.
        env_steps: environment steps taken, set by the loop.
        progress: their share of the run's, set by the loop; schedules read it.
        is_watched: whether anybody reads what `learn` returns, set by the loop; else it may leave
            out all but `update/steps` and `update/skipped`.
    """

    optimizer: Optimizer

    def __init__(
        self,
        *,
        networks: Networks,
        generator: np.random.Generator,
        compile: bool,
    ) -> None:
        """Take the networks."""
        super().__init__()
        self.networks = networks
        self.actor, self.policy_head = networks.actor, networks.policy_head
        self.auxiliary = networks.auxiliary
        self.generator = generator
        self.env_steps = 0
        self.progress = 0.0
        self.is_watched = True
        self._compile = compile
        self._mirror: ActorMirror | None = None
        self._mirror_is_current = False

    @abstractmethod
    def learn(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Improve from T steps of experience on the CPU; return TensorBoard tags, 0-d tensors."""

    @abstractmethod
    def _step(self, *arguments: Any, **named: Any) -> Any:
        """Take one gradient step: a function of tensors, without a branch on data."""

    def experience(self) -> Experience | None:
        """Return what is learnt from again and again; None where experience is used up at once."""
        return None

    @cached_property
    def _gradient_step(self) -> Callable[..., Any]:
        """`_step` as learning calls it, compiled or not."""
        return compiled(self._step, modules=self.modules()) if self._compile else self._step

    def reach(self, env_steps: int, *, total_env_steps: int) -> None:
        """Stand at a point of the run, before acting from there."""
        self.env_steps, self.progress = env_steps, env_steps / total_env_steps

    def adopt(self) -> None:
        """Make what is derived from the networks anew, after weights came from elsewhere."""

    @cached_property
    def _is_alike_in_learning(self) -> bool:
        """Whether switching modes, which visits every module, can be spared."""
        return is_alike_in_learning(self)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by part, frozen ones too; each belongs to exactly one."""
        return self.networks.parts()

    def thaw(self) -> None:
        """Thaw the extractors whose time has come."""
        for backbone in self.networks.backbones.values():
            backbone.reach(self.env_steps)

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
        if self._mirror is not None:
            arrays = map_observations(Tensor.numpy, observations)
            actions, after = self._mirror(arrays, state.numpy(), is_first.numpy(), noise)
            if after.base is not None:  # a view of the state before: step by step, all would live
                after = after.copy()
            return torch.from_numpy(actions), torch.from_numpy(after)
        return self._act_in_torch(observations, state, is_first, noise)

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

    def now(self, schedule: Schedule) -> Float[Tensor, ""]:
        """Return a schedule's value at the present progress."""
        return torch.tensor(schedule(self.progress), device=self.device)

    @contextmanager
    def training_mode(self) -> Iterator[None]:
        """Switch dropout and the like on for gradient steps, on the agent's own randomness."""
        seed, device = int(self.generator.integers(2**63)), self.device
        if self._is_alike_in_learning:
            yield
            return
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
        self.__dict__.pop("_gradient_step", None)
        self.__dict__.pop("_is_alike_in_learning", None)
        for module in self.modules():
            if isinstance(module, Optimizer):
                module.repack()
