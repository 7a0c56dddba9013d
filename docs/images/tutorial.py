"""Draws the figures of docs/tutorial/ from the runs of its commands.

python -m docs.images.tutorial
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import neurl

RUNS = Path("runs/tutorial")
STUDY = Path("runs/studies/tmaze/tmaze")
CURVES = {  # by figure: the tag, and the runs by what the legend calls them
    "mlp": ("evaluation/return", {"MLP": "mlp"}),
    "cnn": ("episode/return", {"CNN": "cnn", "MLP": "breakout-mlp"}),
    "autoencoder": (
        "episode/return",
        {"CNN": "cnn", "with reconstruction": "reconstruction", "frozen": "autoencoder"},
    ),
    "rnn": ("evaluation/return", {"RNN": "rnn", "no memory": "no-memory"}),
    "lstm": (
        "evaluation/return",
        {
            "LSTM": "tmaze-lstm",
            "GRU": "tmaze-gru",
            "LSTM, gradients over 4 steps": "tmaze-lstm-4",
            "no memory": "tmaze-none",
        },
    ),
}


def main() -> None:
    """Draw a figure for each chapter."""
    for name, (tag, runs) in CURVES.items():
        draw_figure(name, tag, {label: [RUNS / run] for label, run in runs.items()})
    arms = {arm: sorted(STUDY.glob(f"{arm}-*/seed*")) for arm in ("lstm", "gru", "rnn", "none")}
    draw_figure("comparing", "evaluation/return", arms)
    save(reconstructions(RUNS / "autoencoder" / "pretraining"), "reconstruction")


def draw_figure(name: str, tag: str, arms: dict[str, list[Path]]) -> None:
    """Draw each run thinly, and the mean of an arm's runs."""
    figure = Figure(figsize=(6, 2.8), layout="constrained")
    axes = figure.subplots()
    for label, runs in arms.items():
        draw(axes, label, list(curves(runs, tag)))
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"return, {'training' if tag == 'episode/return' else 'evaluation'}")
    axes.xaxis.set_major_formatter(lambda steps, _: f"{steps / 1000:.0f}k")
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    save(Image.open(buffer), name)


def curves(runs: list[Path], tag: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read the points of each run: environment steps and values."""
    for run in runs:
        points = neurl.results(str(run), tags=[tag])
        yield np.asarray(points["env_steps"], float), np.asarray(points["value"], float)


def draw(axes: Axes, label: str, runs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Draw an arm; runs are brought to the steps of the first one for their mean."""
    steps = runs[0][0]
    mean = np.mean([np.interp(steps, *run) for run in runs], axis=0)
    (line,) = axes.plot(steps, mean, label=label)
    for run in runs if len(runs) > 1 else []:
        axes.plot(*run, color=line.get_color(), alpha=0.25, linewidth=0.8)


def reconstructions(run: Path) -> Image.Image:
    """Return the last picture of frames above their reconstructions, enlarged."""
    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    image = Image.open(io.BytesIO(events.Images("images/reconstruction")[-1].encoded_image_string))
    factor = max(1, 640 // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def save(image: Image.Image, name: str) -> None:
    """Write a picture of at most 256 colours."""
    path = Path(__file__).with_name(f"tutorial-{name}.png")
    image.convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
