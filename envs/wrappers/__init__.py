"""Wrappers of observations, actions and rewards."""

from envs.wrappers.adapters import ScaleReward
from envs.wrappers.grids import GridCodes, GridPixels
from envs.wrappers.pomdp import MaskVelocity

__all__ = ["GridCodes", "GridPixels", "MaskVelocity", "ScaleReward"]
