"""Feature extractors: MLPs, CNNs and extractors of Dict observations."""

from networks.extractors.cnn import CNN, ImpalaCNN
from networks.extractors.composite import DictExtractor
from networks.extractors.mlp import MLP, Flatten

__all__ = ["CNN", "MLP", "DictExtractor", "Flatten", "ImpalaCNN"]
