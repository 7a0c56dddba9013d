"""What the processes of one run, its ranks, compute together.

A run of several ranks is data-parallel: each has its own environments and the same weights. Every
rank calls the functions below in the same order. Without other ranks, which is the usual case,
they return what they are given.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous

_TIMEOUT = timedelta(hours=2)
"""How long a rank waits for another one, such as for the first one's evaluation. The end of a
process is noticed at once, that of a machine after this time."""
_MEETING = timedelta(minutes=5)
"""How long it waits for the others to begin."""
_place = [0, 1]  # this rank, and the number of ranks


class RankLost(ConnectionError):
    """Another rank has ended, or does not answer."""


def rank() -> int:
    """Return the number of this process, from 0."""
    return _place[0]


def size() -> int:
    """Return the number of ranks."""
    return _place[1]


def on_machine() -> tuple[int, int]:
    """Return the number of this process among those of this machine, and how many these are."""
    if size() == 1:
        return 0, 1
    return int(os.environ.get("LOCAL_RANK", rank())), int(
        os.environ.get("LOCAL_WORLD_SIZE", size())
    )


@contextmanager
def joined(backend: str) -> Iterator[None]:
    """Meet the other ranks, with the rank and the address in this process's environment variables.

    Raises:
        RankLost: not all of them came, or there is no such address.
    """
    with _together("the ranks cannot meet; torchrun starts them: {}"):
        store, *place = next(rendezvous("env://", timeout=_MEETING))
        named = dict(zip(("rank", "world_size"), place, strict=True))
        distributed.init_process_group(backend, store=store, timeout=_TIMEOUT, **named)
    _place[:] = distributed.get_rank(), distributed.get_world_size()
    try:
        yield
    finally:
        _place[:] = 0, 1
        distributed.destroy_process_group()


@contextmanager
def _together(told: str = "another rank has ended, or does not answer") -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # a ValueError if there is no address to meet at
        raise RankLost(told.format(str(error).partition("\n")[0])) from error


def average(tensor: Tensor) -> Tensor:
    """Return the mean over ranks, without gradient; of integers as a float."""
    if size() == 1:
        return tensor
    mean = tensor.detach().clone() if tensor.is_floating_point() else tensor.float()
    with _together():
        distributed.all_reduce(mean)
    return mean.div_(size())


def largest(tensor: Tensor) -> Tensor:
    """Return the maximum over ranks of each entry."""
    if size() > 1:
        tensor = tensor.clone()
        with _together():
            distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
    return tensor


def total(number: int) -> int:
    """Return the sum over ranks."""
    if size() == 1:
        return number
    numbers = torch.tensor(number)
    with _together():
        distributed.all_reduce(numbers)
    return int(numbers)


def of_first(number: int = 0) -> int:
    """Return what the first rank gives."""
    if size() == 1:
        return number
    return int(_sent(torch.tensor(number)))


def text_of_first(text: str = "") -> str:
    """Return the text that the first rank gives."""
    data = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8)
    room = data if rank() == 0 else data.new_zeros(of_first())
    if rank() == 0:
        of_first(len(data))
    return bytes(_sent(room).numpy()).decode()


def share_weights(network: nn.Module) -> None:
    """Give the first rank's weights to all: on another kind of processor they differ a little."""
    for parameter in network.parameters() if size() > 1 else ():
        _sent(parameter.data)


def _sent(tensor: Tensor) -> Tensor:
    with _together():
        distributed.broadcast(tensor, 0)
    return tensor


def count_valid(valid: Bool[Tensor, "*N"]) -> Int[Tensor, ""] | Float[Tensor, ""]:
    """Count the valid steps; 1 if there is none, as a divisor.

    Of several ranks it is the mean count: a rank's sum divided by it is its share of the mean over
    all their steps, and the average of such means is that mean.
    """
    count: Any = average(valid.sum())
    return count.clamp(min=1 if size() == 1 else 1 / size())
