"""The keys of what is hidden from the agent: conf/pomdp/*.yaml."""

from dataclasses import dataclass
from typing import Literal

from conf.schema.types import Count, Fraction, Positive, PositiveCount


@dataclass
class MaskOptions:
    """conf/pomdp/mask.yaml."""

    keys: list[str] | None
    dimensions: list[Count] | None


@dataclass
class MaskVelocityOptions:
    """conf/pomdp/mask_velocity.yaml; older runs have no `keep`."""

    dimensions: list[Count] | None
    keep: Literal["positions", "velocities"] = "positions"


@dataclass
class WindowOptions:
    """conf/pomdp/window.yaml."""

    size: PositiveCount
    channel: Count


@dataclass
class FlickerOptions:
    """conf/pomdp/flicker.yaml."""

    probability: Fraction
    shows: Literal["blank", "stale"]


@dataclass
class NoiseOptions:
    """conf/pomdp/noise.yaml."""

    std: Positive


@dataclass
class DelayOptions:
    """conf/pomdp/delay.yaml."""

    steps: PositiveCount
    is_random: bool


@dataclass
class StickyActionsOptions:
    """conf/pomdp/sticky_actions.yaml."""

    probability: Fraction


WRAPPERS: dict[str, type] = {
    "envs.wrappers.Mask": MaskOptions,
    "envs.wrappers.MaskVelocity": MaskVelocityOptions,
    "envs.wrappers.Window": WindowOptions,
    "envs.wrappers.Flicker": FlickerOptions,
    "envs.wrappers.Noise": NoiseOptions,
    "envs.wrappers.Delay": DelayOptions,
    "envs.wrappers.StickyActions": StickyActionsOptions,
}
