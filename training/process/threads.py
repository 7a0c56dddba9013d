"""Threads of this process, for PyTorch and for numpy's linear algebra."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from networks import ranks

_SMALL_NETWORK = 500_000
"""Parameters up to which one thread is faster: waking several costs more than they save."""


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Draw weights from PyTorch's default generator, the same for any number of threads.

    Orthogonal initialization is a QR decomposition, whose last bits depend on the number of
    threads: here it is one. Generator and number of threads are restored afterwards.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(count)


def set_num_threads(setting: int | str, network: nn.Module) -> None:
    """Give PyTorch `setting` threads; `auto` is one for small networks, every core for large ones.

    Numpy acts on few rows: its linear algebra always gets one thread, because several
    would wait for each other at every step (measured: 80 times slower beside another busy process).
    """
    if setting == "auto":
        size = sum(parameter.numel() for parameter in network.parameters())
        own = (os.cpu_count() or 1) // ranks.on_machine()[1]  # of this rank
        count = 1 if size <= _SMALL_NETWORK else max(own, 1)
    else:
        count = int(setting)
        if count > (os.cpu_count() or count):
            raise ValueError(f"num_threads={count}: this machine has {os.cpu_count()} cores")
    torch.set_num_threads(count)
    threadpool_limits(limits=1, user_api="blas")
