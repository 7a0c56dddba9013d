"""The keys of policy heads and value heads: conf/policy_head/*.yaml, conf/value_head/*.yaml."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from conf.schema.extractors import BlocksOptions
from conf.schema.parts import Part
from conf.schema.types import Bins, Config, NonNegative, Positive, PositiveCount


class PolicyHeadOptions(Part, group="policy_head"):
    """Keys of every policy head, a user's own included.

    Attributes:
        has_log_probs: its actions have log-probabilities, from which PPO and A2C learn.
    """

    has_log_probs: ClassVar[bool] = True


class CategoricalHeadOptions(BlocksOptions, PolicyHeadOptions, of="networks.heads.CategoricalHead"):
    """conf/policy_head/categorical.yaml."""


class GaussianHeadOptions(
    BlocksOptions,
    PolicyHeadOptions,
    of="auto networks.heads.GaussianHead networks.heads.SquashedGaussianHead",
):
    """conf/policy_head/gaussian.yaml, squashed_gaussian.yaml and auto.yaml."""

    initial_log_std: float


class DeterministicHeadOptions(
    BlocksOptions, PolicyHeadOptions, of="networks.heads.DeterministicHead"
):
    """conf/policy_head/deterministic.yaml."""

    has_log_probs: ClassVar[bool] = False


class ValueHeadOptions(BlocksOptions, Part, group="value_head"):
    """Keys of every value head, a user's own included.

    Attributes:
        is_scalar: its output is one number, which can be clipped.
        fits_returns: its targets are numbers; otherwise distributions, from one later output.
    """

    is_scalar: ClassVar[bool] = True
    fits_returns: ClassVar[bool] = True

    gain: NonNegative


class MSEValueHeadOptions(ValueHeadOptions, of="networks.heads.MSEValueHead"):
    """conf/value_head/mse.yaml."""


class HuberValueHeadOptions(ValueHeadOptions, of="networks.heads.HuberValueHead"):
    """conf/value_head/huber.yaml."""

    delta: Positive


class HistogramValueHeadOptions(ValueHeadOptions):
    """Keys of value heads with a support."""

    is_scalar: ClassVar[bool] = False

    bins: Bins
    support: Literal["auto"] | tuple[float, float]

    @staticmethod
    def problems(config: Config) -> Iterator[str]:
        """Refuse an empty support."""
        support = config["value_head"]["support"]
        if support != "auto" and support[0] >= support[1]:
            expected = "expected the lowest and the highest value, in this order"
            yield f"value_head.support: {expected}, got {support}"


class TwoHotValueHeadOptions(HistogramValueHeadOptions, of="networks.heads.TwoHotValueHead"):
    """conf/value_head/two_hot.yaml."""

    symlog: bool


class HLGaussValueHeadOptions(HistogramValueHeadOptions, of="networks.heads.HLGaussValueHead"):
    """conf/value_head/hl_gauss.yaml."""

    sigma: Positive


class C51ValueHeadOptions(HistogramValueHeadOptions, of="networks.heads.C51ValueHead"):
    """conf/value_head/c51.yaml."""

    fits_returns: ClassVar[bool] = False


class QuantileValueHeadOptions(ValueHeadOptions, of="networks.heads.QuantileValueHead"):
    """conf/value_head/quantile.yaml."""

    is_scalar: ClassVar[bool] = False
    fits_returns: ClassVar[bool] = False

    quantiles: PositiveCount
    kappa: NonNegative
