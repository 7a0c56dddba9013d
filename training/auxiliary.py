"""Builds the auxiliary losses that a configuration names."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from torch import nn

from agents.auxiliary import AuxiliaryLosses
from agents.schedules import schedule
from networks.auxiliary import AuxiliaryLoss, Source
from networks.backbone import Backbone
from networks.outline import Unmirrored
from training.instantiation import make, plain, unmirrored, with_factories

_OF_THE_AGENT = ("weight", "weight_schedule")
"""Keys of each loss that say what the agent makes of it."""


def build_auxiliary(
    config: DictConfig, backbones: Mapping[str, Backbone], *, action_size: int
) -> AuxiliaryLosses:
    """Make each loss once for every distinct backbone.

    Raises:
        ValueError: a loss cannot be made for this extractor, or is none.
    """
    options: dict[str, dict[str, Any]] = plain(config.auxiliary)
    return AuxiliaryLosses(
        {
            name: {loss: _build(loss, options[loss], backbone, action_size) for loss in options}
            for name, backbone in backbones.items()
        },
        {
            loss: schedule(own["weight_schedule"], own["weight"], 0.0)
            for loss, own in options.items()
        },
    )


def _build(name: str, options: dict[str, Any], backbone: Backbone, action_size: int) -> Any:
    own = {key: value for key, value in options.items() if key not in _OF_THE_AGENT}
    source = Source(
        inputs=backbone.inputs,
        extractor=backbone.extractor,
        feature_size=backbone.feature_size,
        action_size=action_size,
    )
    key = f"auxiliary.{name}"
    try:
        return make(key, with_factories(key, own, nn.Module), AuxiliaryLoss, source)
    except ValueError as error:
        if isinstance(error.__cause__, Unmirrored):
            raise ValueError(unmirrored(key, error.__cause__)) from error
        raise
