"""The documentation as a site: its navigation is whole, and its links hold there and on GitHub."""

import pkgutil
import re
import runpy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
HOOK = runpy.run_path(str(DOCS / "site_pages.py"))
PAGES = {page.relative_to(DOCS).as_posix(): page for page in DOCS.rglob("*.md")}
PAGES |= {name: ROOT / name for name in HOOK["TOP"]}
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s:#]*)(#[^)\s]+)?\)|!\[[^\]]*\]\(([^)\s:]+)\)")


def prose(text: str) -> str:
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub and the site name them in links."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[tuple[str, str]]:
    """The relative links of a page, each with its anchor."""
    return [(file or image, anchor) for file, anchor, image in LINK.findall(prose(text))]


def named(entry: object) -> set[str]:
    """The pages in a navigation."""
    if isinstance(entry, str):
        return {entry}
    entries = entry.values() if isinstance(entry, dict) else entry
    return set().union(*map(named, entries))  # type: ignore[arg-type, call-overload]


def test_the_navigation_names_every_page_and_no_other() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert named(settings["nav"]) == {*PAGES, "neurl.ipynb"}


@pytest.mark.parametrize("uri", sorted(PAGES))
def test_links_hold_on_github_and_on_the_site(uri: str) -> None:
    page = PAGES[uri]
    text = page.read_text(encoding="utf-8")
    mended = links(HOOK["site_links"](text, uri))
    for (link, anchor), (site_link, _) in zip(links(text), mended, strict=True):
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), f"{uri}: {link} is no file"
        if anchor and target.suffix == ".md":
            assert anchor[1:] in anchors(target), f"{uri}: {link}{anchor} is no heading"
        here = (DOCS / uri).parent  # as if the pages at the top lay in docs/
        on_site = (here / site_link).resolve().relative_to(DOCS).as_posix() if link else uri
        assert on_site in PAGES or (DOCS / on_site).is_file(), f"{uri}: {site_link} is not served"


def test_what_the_reference_and_the_tutorial_name_is_there() -> None:
    reference = re.findall(r"^::: (\S+)$", PAGES["reference.md"].read_text(), re.MULTILINE)
    for uri, page in PAGES.items():
        if uri.startswith("tutorial/"):
            reference += re.findall(r"`((?:networks|agents)(?:\.\w+)+)`", page.read_text())
    assert len(reference) > 25
    for name in reference:
        assert pkgutil.resolve_name(name).__doc__, name


def test_pictures_are_small_and_drawn_by_a_script() -> None:
    script = (DOCS / "images" / "tutorial.py").read_text(encoding="utf-8")
    pictures = sorted((DOCS / "images").glob("tutorial-*.png"))
    assert len(pictures) == 7
    for picture in pictures:
        assert picture.stat().st_size < 60_000
        assert f'"{picture.stem.removeprefix("tutorial-")}"' in script


def test_screenshots_of_tensorboard_are_taken_by_a_script() -> None:
    script = (DOCS / "images" / "tensorboard.py").read_text(encoding="utf-8")
    pictures = sorted((DOCS / "images").glob("tensorboard-*.png"))
    assert len(pictures) == 3
    for picture in pictures:
        assert picture.stat().st_size < 100_000
        assert f'"{picture.stem}"' in script
