"""How far back a policy looks: its gradient with respect to past observations."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent
from analysis.probing.recording import Recording
from networks.heads.distributions import Bernoulli, Categorical, Choice
from networks.heads.greedy import Greedy
from networks.observations import map_observations, parts_of

_WINDOWS = 256


def sensitivity(
    agent: Agent, recording: Recording, states: Float[Tensor, "T1 B S"], *, reach: int, seed: int
) -> Float[np.ndarray, " K"]:
    """Return the mean norm of `d policy(t) / d observation(t - k)` for k = 0 .. reach.

    The policy is its log-probabilities, action values or mean; observations are scaled, normalised
    and one-hot. Norms are estimated with random signs `v`: `E |J^T v|^2 = |J|^2` (Hutchinson 1990).
    Steps before the episode's start do not count; nan where no episode is as long.

    Args:
        states: of the memory before each step, and after the last.
    """
    is_first = recording.is_first
    steps, batch = is_first.shape
    reach = min(reach, steps - 1)
    generator = np.random.default_rng(seed)
    ends = torch.from_numpy(generator.integers(reach, steps, _WINDOWS))
    columns = torch.from_numpy(generator.integers(0, batch, _WINDOWS))
    times = ends - torch.arange(reach, -1, -1)[:, None]  # [K + 1, W]
    chosen = map_observations(
        lambda part: part[times, columns].to(agent.device), recording.observations
    )
    actor, first = agent.actor, is_first[times, columns].to(agent.device)
    rows = map_observations(lambda part: part.detach().requires_grad_(), actor.rows(chosen))
    features = actor.extract(rows).view(reach + 1, _WINDOWS, -1)
    summary, _ = actor.memory(features, states[times[0], columns], first)
    policy = _differentiable(agent.policy_head(summary[-1]))
    signs = torch.from_numpy(generator.choice([-1.0, 1.0], tuple(policy.shape))).to(policy)
    gradients = torch.autograd.grad((policy * signs).sum(), list(parts_of(rows)))
    squares = sum(g.reshape(reach + 1, _WINDOWS, -1).square().sum(-1) for g in gradients)
    assert isinstance(squares, Tensor)
    # An observation belongs to the episode of t if no later step of the window opens one.
    later = first.flip(0).cumsum(0).flip(0)
    inside = torch.cat([later[1:], torch.zeros_like(later[:1])]) == 0
    sums, counts = (squares.sqrt() * inside).sum(1), inside.sum(1)
    found: Float[np.ndarray, " K"] = (sums / counts).flip(0).cpu().numpy()
    return found


def _differentiable(choice: Choice) -> Tensor:
    """Return what the choice is made from."""
    if isinstance(choice, Greedy):
        return choice.values(None)
    if isinstance(choice, Categorical):
        return choice.log_probabilities
    if isinstance(choice, Bernoulli):
        return choice.logits
    return choice.mode()
