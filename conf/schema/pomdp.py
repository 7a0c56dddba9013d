"""The keys of what is hidden from the agent: conf/pomdp/*.yaml."""

from typing import Literal

from conf.schema.parts import Part
from conf.schema.types import Count, Fraction, Positive, PositiveCount


class HidingOptions(Part, group="pomdp"):
    """A wrapper of the user's own takes any keys."""


class MaskOptions(HidingOptions, of="envs.wrappers.Mask"):
    """conf/pomdp/mask.yaml."""

    keys: list[str] | None
    dimensions: list[Count] | None


class MaskVelocityOptions(HidingOptions, of="envs.wrappers.MaskVelocity"):
    """conf/pomdp/mask_velocity.yaml."""

    dimensions: list[Count] | None
    keep: Literal["positions", "velocities"] = "positions"


class WindowOptions(HidingOptions, of="envs.wrappers.Window"):
    """conf/pomdp/window.yaml."""

    size: PositiveCount
    channel: Count


class FlickerOptions(HidingOptions, of="envs.wrappers.Flicker"):
    """conf/pomdp/flicker.yaml."""

    probability: Fraction
    shows: Literal["blank", "stale"]


class NoiseOptions(HidingOptions, of="envs.wrappers.Noise"):
    """conf/pomdp/noise.yaml."""

    std: Positive


class DelayOptions(HidingOptions, of="envs.wrappers.Delay"):
    """conf/pomdp/delay.yaml."""

    steps: PositiveCount
    is_random: bool


class StickyActionsOptions(HidingOptions, of="envs.wrappers.StickyActions"):
    """conf/pomdp/sticky_actions.yaml."""

    probability: Fraction
