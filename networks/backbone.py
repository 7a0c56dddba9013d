"""A backbone reads a stream of observations: input scaling, normalisation, extractor, memory."""

from collections.abc import Callable

from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from networks.inputs import ObservationInput
from networks.memory import Memory
from networks.mirror import Array, mirror_of
from networks.normalization import DictNormalization, NoNormalization, RunningNormalization
from networks.observations import any_part, map_observations

BackboneMirror = Callable[[Array | dict[str, Array], Array, Array], tuple[Array, Array]]
"""`observations [B, *O], state [B, S], is_first [B] -> output [B, H], state [B, S]`."""
Stream = Shaped[Tensor, "T B *O"] | dict[str, Shaped[Tensor, "T B ..."]]
"""T steps of B environments' observations, or of each of their parts."""


class Backbone(nn.Module):
    """`observations -> inputs -> normalization -> extractor -> memory`.

    The actor's and the critic's backbone share `inputs` and `normalization` (there is one truth
    about what the environment emits) and may be one and the same object.
    """

    def __init__(
        self,
        *,
        inputs: ObservationInput,
        normalization: RunningNormalization | DictNormalization | NoNormalization,
        extractor: nn.Module,
        memory: Memory,
    ) -> None:
        """Compose the parts."""
        super().__init__()
        self.inputs = inputs
        self.normalization = normalization
        self.extractor = extractor
        self.memory = memory

    def features(self, observations: Stream) -> Float[Tensor, "T B F"]:
        """Extract every observation's features; rows only, no time."""
        steps, batch = any_part(observations).shape[:2]
        rows = self.inputs(map_observations(lambda part: part.flatten(0, 1), observations))
        features: Tensor = self.extractor(self.normalization(rows))
        return features.view(steps, batch, -1)

    def forward(
        self, observations: Stream, state: Float[Tensor, "B S"], is_first: Bool[Tensor, "T B"]
    ) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "B S"]]:
        """Read T steps of B environments; return each summary and the state after the last step."""
        output: tuple[Tensor, Tensor] = self.memory(self.features(observations), state, is_first)
        return output

    def unroll(
        self,
        observations: Stream,
        state: Float[Tensor, "B S"],
        is_first: Bool[Tensor, "T B"],
        *,
        sequence_length: int,
    ) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "W B S"], Float[Tensor, "B S"]]:
        """As `forward` in windows of `sequence_length`; also return each window's initial state."""
        return self.memory.unroll(
            self.features(observations), state, is_first, sequence_length=sequence_length
        )

    def observe(self, observations: Stream, valid: Bool[Tensor, "T B"]) -> None:
        """Move the normalisation by the observations at which a real step was taken."""
        if self.normalization.learns:
            rows = self.inputs(map_observations(lambda part: part[valid], observations))
            self.normalization.update(rows)

    def mirror(self) -> BackboneMirror | None:
        """Numpy form of `forward` at T = 1; None when some part has none."""
        inputs, normalize = mirror_of(self.inputs), mirror_of(self.normalization)
        extract, memory = mirror_of(self.extractor), mirror_of(self.memory)
        if inputs is None or normalize is None or extract is None or memory is None:
            return None

        def apply(
            observations: Array | dict[str, Array], state: Array, is_first: Array
        ) -> tuple[Array, Array]:
            output: tuple[Array, Array] = memory(
                extract(normalize(inputs(observations))), state, is_first
            )
            return output

        return apply
