"""Wrappers of observations, actions and rewards."""

from envs.wrappers.adapters import ScaleReward
from envs.wrappers.grids import GridCodes, GridPixels
from envs.wrappers.pomdp import Mask, MaskVelocity, Window
from envs.wrappers.sensors import Delay, Flicker, Noise, StickyActions

__all__ = [
    "Delay", "Flicker", "GridCodes", "GridPixels", "Mask", "MaskVelocity", "Noise", "ScaleReward",
    "StickyActions", "Window",
]  # fmt: skip
