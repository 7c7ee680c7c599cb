"""Hooks of mkdocs.yml: make the README the first page, and replace links out of docs/ by file names."""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
INDEX = "index.md"

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the README as the first page."""
    files.append(File.generated(config, INDEX, content=(ROOT / "README.md").read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Returns a page with links that work on the site."""
    name = page.file.src_uri
    return in_site(markdown, ROOT if name == INDEX else (ROOT / "docs" / name).parent, name)


def in_site(markdown: str, folder: Path, page: str) -> str:
    """Rewrites links between pages for the site; links to other files become their names.

    Args:
        markdown: the text.
        folder: the folder of the page, to which its links are relative.
        page: its name, for messages.

    Raises:
        PluginError: if a link leads nowhere.
    """

    def moved(link: re.Match[str]) -> str:
        picture, label, target, anchor = link.groups(default="")
        if "://" in target:
            return link.group()
        place = (folder / target).resolve()
        if not place.exists():
            raise PluginError(f"{page}: the link to {target} leads nowhere")
        if place.is_relative_to(ROOT / "docs") and place.is_file():
            inside = place.relative_to(ROOT / "docs")
            from_here = os.path.relpath(inside, Path(page).parent)
            return f"{picture}[{label}]({Path(from_here).as_posix()}{anchor})"
        if place == ROOT / "README.md":
            return f"[{label}]({INDEX}{anchor})"
        return f"`{label.strip('`')}`"  # the site has no copy of it

    return _LINK.sub(moved, markdown)
