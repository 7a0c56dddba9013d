"""What an agent keeps to learn from again, beside its weights."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


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
