"""Builds the autoencoder that an extractor's configuration describes, for its pre-training."""

from typing import Any

from omegaconf import DictConfig
from torch import nn

from networks.autoencoder import Autoencoder, Encoder
from networks.inputs import ObservationInput
from networks.outline import Unmirrored
from training.instantiation import plain, unmirrored, with_factories

_OPTIONS = ("decoder", "noise", "variational", "beta")
"""Keys of the extractor that only its pre-training reads."""


def build_autoencoder(
    key: str, config: DictConfig | dict[str, Any], inputs: ObservationInput, encoder: Encoder
) -> Autoencoder:
    """Put a decoder behind an encoder.

    Args:
        key: where the configuration stands, for messages.

    Raises:
        ValueError: such observations, or what this encoder makes of them, cannot be decoded.
    """
    options = plain(config)
    own = with_factories(key, {name: options[name] for name in _OPTIONS}, nn.Module)
    try:
        return Autoencoder(inputs, encoder, **own)
    except Unmirrored as error:
        raise ValueError(unmirrored(key, error)) from error
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
