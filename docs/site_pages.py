"""The pages at the top of the repository become pages of the site, with links that hold there.

A hook of mkdocs. On GitHub README.md links to `docs/runs.md`, which links to `../SECURITY.md`; on
the site they lie in one folder.
"""

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(?<=\]\()[^)\s#:]+(?=[)#])")  # to a file of the repository, without its anchor


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages that lie outside of docs/."""
    from mkdocs.structure.files import File

    for name in TOP:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: "Page", **_: Any) -> str:
    """Bring the links of a page from the repository to the site."""
    return site_links(markdown, page.file.src_uri)


def site_links(markdown: str, uri: str) -> str:
    """Return a page with the links that hold on the site.

    Args:
        uri: of the page on the site, such as `howto/agent.md`.
    """
    place = dirname(uri if uri in TOP else join("docs", uri))

    def mended(link: re.Match[str]) -> str:
        target = normpath(join(place, link[0])).removeprefix("docs/")
        return relpath(target, dirname(uri) or ".")

    return LINK.sub(mended, markdown)
