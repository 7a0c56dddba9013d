"""Takes the documentation's screenshots of a report.

python compare.py study=memory_on_cartpole_no_velocity
python -m docs.images.screenshots runs/studies/memory_on_cartpole_no_velocity/report.html [CHROMIUM]
"""

import html
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
LIGHT, DARK = "report-light.png", "report-dark-phone.png"
PHONE = 380
"""Pixels; a headless window cannot be narrower than 500, so a frame of this width is in it."""


def take(browser: str, page: Path, size: tuple[int, int], scale: float, path: Path) -> None:
    """Write a picture of the top of a page."""
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'profile'}", f"--window-size={size[0]},{size[1]}",
        f"--force-device-scale-factor={scale}", f"--screenshot={path}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def crop(path: Path, width: int) -> None:
    """Cut a picture to a width, and keep few colours: a small file."""
    with Image.open(path) as image:
        cropped = image.convert("RGB").crop((0, 0, min(width, image.width), image.height))
    few = cropped.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def main(page: str, browser: str = "chromium") -> None:
    """Take both pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder, text = Path(name), Path(page).read_text(encoding="utf-8")
        light = folder / "light.html"
        light.write_text(text.replace("<html ", '<html data-theme="light" '), encoding="utf-8")
        dark = html.escape(text.replace("<html ", '<html data-theme="dark" '))
        phone = folder / "phone.html"
        phone.write_text(
            f'<body style="margin: 0"><iframe style="border: 0; width: {PHONE}px; height: 1500px" '
            f'srcdoc="{dark}"></iframe>',
            encoding="utf-8",
        )
        take(browser, light, (1280, 1850), 1, HERE / LIGHT)
        take(browser, phone, (500, 1500), 1.5, HERE / DARK)
    crop(HERE / LIGHT, 1280)
    crop(HERE / DARK, round(PHONE * 1.5))


if __name__ == "__main__":
    main(*sys.argv[1:])
