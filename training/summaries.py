"""What TensorBoard is told besides scalars, in its own protocol buffers."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.util.tensor_util import make_tensor_proto

from conf.choices import Choice
from networks.mirror import Array


def text_value(tag: str, markdown: str) -> Any:
    """Make a text, which the tab of that name renders as Markdown."""
    return Summary.Value(
        tag=tag,
        metadata=text_metadata.create_summary_metadata(display_name=None, description=None),
        tensor=make_tensor_proto(markdown.encode()),
    )


def image_value(tag: str, encoded: bytes, width: int, height: int, description: str) -> Any:
    """Make an image; browsers play an animated GIF."""
    return Summary.Value(
        tag=tag,
        metadata=SummaryMetadata(summary_description=description),
        image=Summary.Image(encoded_image_string=encoded, width=width, height=height, colorspace=3),
    )


def picture_value(tag: str, pixels: Array) -> Any:
    """Make a still image of `uint8 [H, W, 3]`."""
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    height, width, _ = pixels.shape
    return image_value(tag, encoded.getvalue(), width, height, "")


def hparams_value(hyperparameters: Mapping[str, Choice], start: float) -> Any:
    """Make one row of the hparams tab.

    Nothing is declared about an experiment: of several runs TensorBoard would take the columns of
    the first. Left alone, it finds the columns of all, which of them differ, and the metrics.

    Args:
        start: time in seconds since 1970.
    """
    session = SessionStartInfo(start_time_secs=start)
    for key, value in hyperparameters.items():
        cell = session.hparams[key]
        if isinstance(value, bool):
            cell.bool_value = value
        elif isinstance(value, int | float):
            cell.number_value = value
        else:
            cell.string_value = "null" if value is None else value
    return Summary.Value(
        tag=hparams_metadata.SESSION_START_INFO_TAG,
        metadata=hparams_metadata.create_summary_metadata(
            HParamsPluginData(session_start_info=session)
        ),
        tensor=hparams_metadata.NULL_TENSOR,
    )
