"""Takes the tutorial's screenshots of TensorBoard, from the runs of its commands.

python -m docs.images.tensorboard [CHROMIUM]
"""

import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from docs.images.tutorial import RUNS

PORT = 6123
TAGS = "entropy|clip_fraction|explained|evaluation/return"
PICTURES = {  # by name: the runs, the end of the address, the window
    "tensorboard-start": (["mlp", "linear", "fast"], "#custom_scalars", (1200, 760)),
    "tensorboard-curves": (
        ["mlp", "linear", "fast"],
        f"#scalars&tagFilter={quote(TAGS, safe='')}&_smoothingWeight=0",
        (1200, 740),
    ),
    "tensorboard-images": (["reconstruction"], "#images", (1200, 440)),
}
SECONDS = 25
"""Of a page's clock, until its charts are drawn."""


def main(browser: str = "chromium") -> None:
    """Take all pictures."""
    for name, (runs, page, size) in PICTURES.items():
        with tempfile.TemporaryDirectory() as folder, serving(Path(folder), runs):
            path = Path(folder, "picture.png")
            take(browser, page, size, path)
            few = Image.open(path).convert("RGB").quantize(256)
            few.save(Path(__file__).with_name(f"{name}.png"), optimize=True)


@contextmanager
def serving(folder: Path, runs: list[str]) -> Iterator[None]:
    """Serve some runs of the tutorial."""
    logs = folder / RUNS
    logs.mkdir(parents=True)
    for run in runs:
        (logs / run).symlink_to((RUNS / run).resolve())
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(RUNS), "--port", str(PORT)]
    silent: dict[str, int] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, cwd=folder, **silent)  # which shows the path of its logs
    try:
        until = time.monotonic() + 60
        while not _lists(runs) and time.monotonic() < until:
            time.sleep(0.5)
        yield
    finally:
        server.terminate()
        server.wait()


def _lists(runs: list[str]) -> bool:
    try:
        with urllib.request.urlopen(f"http://localhost:{PORT}/data/runs") as answer:
            told = answer.read().decode()
    except OSError:
        return False
    return all(f'"{run}"' in told for run in runs)


def take(browser: str, page: str, size: tuple[int, int], path: Path) -> None:
    """Write a picture of a page."""
    quiet = ("quic", "background-networking", "component-update", "sync")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        *(f"--disable-{what}" for what in quiet),
        "--hide-scrollbars", f"--user-data-dir={path.parent / 'profile'}",
        f"--window-size={size[0]},{size[1]}", f"--virtual-time-budget={1000 * SECONDS}",
        f"--screenshot={path}", f"http://localhost:{PORT}/{page}",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=300)


if __name__ == "__main__":
    main(*sys.argv[1:])
