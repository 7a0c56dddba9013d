"""Executes the annotations of the mathematics under test: shapes and types are checked."""

import jaxtyping
import torch

# Before the first import of either package; the rest of the library runs as users run it.
jaxtyping.install_import_hook(["agents", "networks"], "beartype.beartype")

# Small networks are fastest on one thread, and a fixed number keeps sums in one order.
torch.set_num_threads(1)
