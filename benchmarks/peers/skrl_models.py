"""The networks that skrl's user writes: as in its examples, in the sizes of the workloads.

A memory reads sequences that start in a stored state. SAC_RNN computes targets from wrong states:

- It gives one stored state to the observations s and to the next ones s', whose sequences begin a
  step later. Its examples start the target critics in the next step's state, but not the policy.
- The states that it stores are the policy's. The critics' memories, other networks, start in them.
- From a run's second step on they are states after the observation they are stored with, because
  both of its dictionaries of states are one after the first step.
- Its examples reset a memory in sequences where an episode terminates. Pendulum's are truncated, so
  sequences run on into the next episode; they also run over the write cursor of a full buffer.
"""

from typing import Any

import torch
from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin, Model
from torch import Tensor, nn

from benchmarks.work import Criticising

Computed = tuple[Tensor, dict[str, Any]]

TORQUE = 2.0  # Pendulum's bound


def layers(
    inputs: int, hidden: int, outputs: int, activation: type[nn.Module] = nn.Tanh
) -> nn.Sequential:
    """Two layers and a linear one."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        activation(),
        nn.Linear(hidden, hidden),
        activation(),
        nn.Linear(hidden, outputs),
    )


class Policy(CategoricalMixin, Model):
    """Logits of the actions."""

    def __init__(self, *, hidden_size: int, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        CategoricalMixin.__init__(self)
        self.net = layers(self.num_observations, hidden_size, self.num_actions)

    def compute(self, inputs: dict[str, Any], role: str) -> Computed:
        """Map observations to logits."""
        return self.net(inputs["observations"]), {}


class Value(DeterministicMixin, Model):
    """The value of an observation."""

    def __init__(self, *, hidden_size: int, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = layers(self.num_observations, hidden_size, 1)

    def compute(self, inputs: dict[str, Any], role: str) -> Computed:
        """Map observations to values."""
        return self.net(inputs["observations"]), {}


class Network(nn.Module):
    """An LSTM, if the workload has a memory, and ReLU layers; actions join between them."""

    def __init__(self, work: Criticising, *, observations: int, actions: int, outputs: int) -> None:
        super().__init__()
        self.length = work.sequence_length
        size = work.memory_size
        self.lstm = nn.LSTM(observations, size, batch_first=True) if size else None
        self.net = layers((size or observations) + actions, work.hidden_size, outputs, nn.ReLU)

    def specification(self) -> dict[str, Any]:
        """Describe the states that skrl stores, of one environment."""
        if self.lstm is None:
            return {}
        sizes = [(1, 1, self.lstm.hidden_size)] * 2
        return {"rnn": {"sequence_length": self.length, "sizes": sizes}}

    def forward(self, inputs: dict[str, Any], *, first: int = 0, critic: bool = False) -> Computed:
        """Map steps, those of sequences one after another; also return the memory's last states.

        Args:
            first: the step of a sequence with whose stored state it begins.
            critic: reads the actions too.
        """
        features, extra = inputs["observations"], {}
        if self.lstm is not None:
            length = self.length if self.training else 1
            states = [each.unflatten(1, (-1, length))[:, :, first] for each in inputs["rnn"]]
            sequences = features.unflatten(0, (-1, length))
            outputs, after = self.lstm(sequences, tuple(each.contiguous() for each in states))
            features, extra = outputs.flatten(0, 1), {"rnn": list(after)}
        if critic:
            features = torch.cat([features, inputs["taken_actions"]], dim=-1)
        return self.net(features), extra


class GaussianPolicy(GaussianMixin, Model):
    """Mean and standard deviation of the actions: SAC's policy."""

    def __init__(self, work: Criticising, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self, clip_actions=True)
        outputs = 2 * self.num_actions
        self.net = Network(work, observations=self.num_observations, actions=0, outputs=outputs)

    def get_specification(self) -> dict[str, Any]:
        """Describe the memory."""
        return self.net.specification()

    def compute(self, inputs: dict[str, Any], role: str) -> Computed:
        """Map observations to the mean; skrl samples."""
        outputs, extra = self.net(inputs)
        mean, log_std = outputs.chunk(2, dim=-1)
        return TORQUE * mean.tanh(), {"log_std": log_std, **extra}


class DeterministicPolicy(DeterministicMixin, Model):
    """The actions: TD3's policy."""

    def __init__(self, work: Criticising, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        size, outputs = self.num_observations, self.num_actions
        self.net = Network(work, observations=size, actions=0, outputs=outputs)

    def compute(self, inputs: dict[str, Any], role: str) -> Computed:
        """Map observations to actions."""
        outputs, extra = self.net(inputs)
        return TORQUE * outputs.tanh(), extra


class Critic(DeterministicMixin, Model):
    """The value of an action."""

    def __init__(self, work: Criticising, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        size, actions = self.num_observations, self.num_actions
        self.net = Network(work, observations=size, actions=actions, outputs=1)

    def compute(self, inputs: dict[str, Any], role: str) -> Computed:
        """Map observations and actions to values; skrl names the model that it asks."""
        return self.net(inputs, first=int(role.startswith("target")), critic=True)
