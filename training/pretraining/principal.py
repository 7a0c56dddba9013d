"""Principal components: the least error that any linear encoder of some size can have."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

MAX_COLUMNS = 2048
"""Widest rows whose components are computed: the time grows with the third power."""
Batches = Callable[[], Iterator[Float[Tensor, "N D"]]]
"""Goes through some rows, in pieces."""


@torch.no_grad()
def component_error(learnt: Batches, held_out: Batches, size: int) -> float:
    """Mean squared distance of rows from what `size` components of other rows make of them.

        C = mean (x - m)(x - m)^T,  W its `size` leading eigenvectors
        error = mean |(x - m) - W W^T (x - m)|^2,  a sum over columns

    In float64. Source: Pearson (1901); Jolliffe (2002), section 3.
    """
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for rows in learnt():
        wide = rows.double()
        count += len(wide)
        total = total.to(wide) + wide.sum(0)
        products = products.to(wide) + wide.T @ wide
    mean = total / count
    covariance = products / count - torch.outer(mean, mean)
    _, vectors = torch.linalg.eigh(covariance)  # in ascending order of what they explain
    basis = vectors[:, -size:]
    squares, measured = 0.0, 0
    for rows in held_out():
        centred = rows.double() - mean
        squares += float((centred - centred @ basis @ basis.T).square().sum())
        measured += len(centred)
    return squares / measured
