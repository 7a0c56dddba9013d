"""Draws docs/images/lengths.png: scores of memories by the length of a passive T-maze.

python compare.py study=memories_on_tmaze_lengths
python -m docs.images.lengths runs/studies/memories_on_tmaze_lengths/results.csv
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

STYLES = {"lru": "o-", "lstm": "s-", "gru": "^-", "none": "x--"}


def main() -> None:
    """Draw each run as a point, and each arm's means as a line."""
    scores = defaultdict[str, dict[int, list[float]]](lambda: defaultdict(list))
    with Path(sys.argv[1]).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            length = int(row["task"].removeprefix("length_"))
            scores[row["arm"]][length].append(float(row["score"]))
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for place, (arm, style) in enumerate(STYLES.items()):
        by_length = dict(sorted(scores[arm].items()))
        means = [sum(each) / len(each) for each in by_length.values()]
        places = [index + 0.04 * (place - 1.5) for index in range(len(by_length))]
        (line,) = axes.plot(places, means, style, label=arm)
        for where, each in zip(places, by_length.values(), strict=True):
            axes.plot([where] * len(each), each, ".", color=line.get_color(), alpha=0.4)
        axes.set_xticks(range(len(by_length)), list(map(str, by_length)))
    axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xlabel("length of the corridor")
    axes.set_ylabel("mean return, 5 seeds")
    axes.legend(frameon=False)
    figure.savefig(Path(__file__).with_name("lengths.png"), dpi=120)


if __name__ == "__main__":
    main()
