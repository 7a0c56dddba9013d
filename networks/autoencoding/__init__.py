"""Autoencoders, decoders and auxiliary losses."""

from networks.autoencoding.autoencoder import Encoder
from networks.autoencoding.decoders import DenseDecoder
from networks.autoencoding.losses import (
    VAE,
    AuxiliaryLoss,
    LambdaDiscrepancy,
    NextLatent,
    Reconstruction,
)

__all__ = [
    "VAE", "AuxiliaryLoss", "DenseDecoder", "Encoder", "LambdaDiscrepancy", "NextLatent",
    "Reconstruction",
]  # fmt: skip
