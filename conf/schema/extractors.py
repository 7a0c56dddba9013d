"""The keys of extractors, decoders and auxiliary losses.

Each names the class whose keys it has.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from conf.schema.memories import remembers
from conf.schema.parts import Options, Part
from conf.schema.types import (
    Activation,
    Config,
    Count,
    Fraction,
    FractionBelowOne,
    Free,
    ImageLayout,
    Initialization,
    NonNegative,
    Path,
    Positive,
    PositiveCount,
    Rules,
    Schedule,
    Target,
    show,
)

Decoder = Annotated[Any, Target("decoder")]
"""A mapping; a network that is built with these options gets a factory in its place."""


class LayersOptions(Options):
    """Fully connected layers; `gain` applies to the last one."""

    hidden_sizes: list[PositiveCount]
    activation: Activation
    initialization: Initialization
    gain: Positive


LAYERS_OFF: Config = {"normalization": "none", "dropout": 0.0, "residual": False}
"""The options of layers that do nothing."""


class BlocksOptions(LayersOptions):
    """Fully connected layers that may be normalised, dropped out and residual."""

    normalization: Literal["none", "layer", "batch_renorm"] = "none"
    dropout: FractionBelowOne = 0.0
    residual: bool = False

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse options of layers that are not there."""
        for key in ("policy_head", "value_head"):
            if config[key].get("hidden_sizes") == []:
                for option, off in LAYERS_OFF.items():
                    yield f"{key}.{option}", off, f"{key}.hidden_sizes=[] has no layers for it"


class ExtractorOptions(Part, group="extractor"):
    """Keys of every extractor, a user's own included."""

    is_autoencoder: ClassVar[bool] = False

    weights: Path | None = None
    freeze: bool | PositiveCount = False


class MLPOptions(BlocksOptions, ExtractorOptions, of="networks.extractors.MLP"):
    """conf/extractor/mlp.yaml."""


class FlattenOptions(ExtractorOptions, of="networks.extractors.Flatten"):
    """conf/extractor/flatten.yaml."""


class ConvolutionOptions(Options):
    """An entry of `layers` in conf/extractor/cnn.yaml; a number for both sides, or one for each."""

    filters: PositiveCount
    kernel: PositiveCount | tuple[PositiveCount, PositiveCount]
    stride: PositiveCount | tuple[PositiveCount, PositiveCount] = 1
    padding: Count | tuple[Count, Count] = 0
    pool: Count | tuple[Count, Count] = 1


class CNNOptions(LayersOptions, ExtractorOptions, of="networks.extractors.CNN"):
    """conf/extractor/cnn.yaml and nature_cnn.yaml."""

    layout: ImageLayout
    layers: Literal["auto"] | list[ConvolutionOptions]
    filters: list[PositiveCount]
    normalization: Literal["none", "layer"]


class ImpalaCNNOptions(LayersOptions, ExtractorOptions, of="networks.extractors.ImpalaCNN"):
    """conf/extractor/impala_cnn.yaml."""

    activation: Literal["relu"] = "relu"
    layout: ImageLayout
    filters: list[PositiveCount]
    num_blocks: Count


class DictExtractorOptions(LayersOptions, ExtractorOptions, of="networks.extractors.DictExtractor"):
    """conf/extractor/dict.yaml."""

    default: Annotated[Free, Target("extractor")]
    keys: Annotated[Free, Target("extractor", is_tree=True)]


class PretrainingOptions(Options):
    """`pretrain` of conf/extractor/autoencoder.yaml and vae.yaml."""

    frames: Count
    source: Path
    epochs: PositiveCount
    batch_size: PositiveCount
    learning_rate: Positive


class AutoencoderOptions(ExtractorOptions, of="networks.autoencoding.Encoder"):
    """conf/extractor/autoencoder.yaml and vae.yaml."""

    is_autoencoder: ClassVar[bool] = True

    encoder: Annotated[Free, Target("extractor")] | None
    image_encoder: Annotated[Free, Target("extractor")]
    vector_encoder: Annotated[Free, Target("extractor")]
    latent_size: PositiveCount
    initialization: Initialization
    gain: Positive
    decoder: Decoder | None
    variational: bool
    beta: NonNegative
    pretrain: PretrainingOptions


def is_autoencoder(extractor: Mapping[str, Any]) -> bool:
    """Tell whether an extractor's configuration is that of an autoencoder's encoder."""
    return getattr(Part.targets["extractor"].get(extractor["_target_"]), "is_autoencoder", False)


class DecoderOptions(Part, group="decoder"):
    """A decoder of the user's own takes any keys."""


class DenseDecoderOptions(LayersOptions, DecoderOptions, of="networks.autoencoding.DenseDecoder"):
    """conf/decoder/dense.yaml."""


class AuxiliaryOptions(Part, group="auxiliary"):
    """Keys of every auxiliary loss that the agent reads; others go to its constructor."""

    trains_memory: ClassVar[bool] = False

    weight: NonNegative
    weight_schedule: Schedule


class ReconstructionOptions(AuxiliaryOptions, of="networks.autoencoding.Reconstruction"):
    """conf/auxiliary/reconstruction.yaml and sac_ae.yaml."""

    decoder: Decoder | None
    latent_decay: NonNegative


class VAEOptions(AuxiliaryOptions, of="networks.autoencoding.VAE"):
    """conf/auxiliary/vae.yaml."""

    decoder: Decoder | None
    latent_size: PositiveCount
    beta: NonNegative


class NextLatentOptions(AuxiliaryOptions, of="networks.autoencoding.NextLatent"):
    """conf/auxiliary/next_latent.yaml."""

    hidden_sizes: list[PositiveCount]
    activation: Activation


class LambdaDiscrepancyOptions(AuxiliaryOptions, of="networks.autoencoding.LambdaDiscrepancy"):
    """conf/auxiliary/lambda_discrepancy.yaml."""

    trains_memory: ClassVar[bool] = True

    gae_lambda: Fraction

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse agents without values of lambda returns, and no memory that the policy reads."""
        agent, told = config["agent"], "auxiliary: expected no lambda_discrepancy, because"
        others = [own["gae_lambda"] for own in config["auxiliary"].values() if "gae_lambda" in own]
        if "gae_lambda" not in agent:
            name = agent["_target_"].rpartition(".")[2]
            yield f"{told} {name} has no values that are lambda returns; use agent=ppo or agent=a2c"
        elif not remembers(config["memory"]):
            yield f"{told} there is no memory to train; set memory=gru"
        elif not config["share_backbone"]:
            why = "the policy must read the memory that auxiliary=lambda_discrepancy trains"
            yield "share_backbone", True, why
        elif others == [agent["gae_lambda"]] or len(others) > 1:
            told = "expected another than the one of auxiliary=lambda_discrepancy"
            yield f"agent.gae_lambda: {told}, got {agent['gae_lambda']:g} and {show(others)}"
