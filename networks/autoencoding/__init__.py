"""Autoencoders, decoders and auxiliary losses."""

from networks.autoencoding.autoencoder import Encoder
from networks.autoencoding.decoders import ConvolutionalDecoder, DenseDecoder
from networks.autoencoding.losses import (
    VAE,
    AuxiliaryLoss,
    LambdaDiscrepancy,
    NextLatent,
    Reconstruction,
)

__all__ = [
    "VAE", "AuxiliaryLoss", "ConvolutionalDecoder", "DenseDecoder", "Encoder", "LambdaDiscrepancy",
    "NextLatent", "Reconstruction",
]  # fmt: skip
