"""What MkDocs is told beyond mkdocs.yml: the site has the repository's own paths.

Pages lie in docs/ and at the repository's root, and link to each other, to records and to notebooks
as on any Git host. So each page keeps its path in the repository as its source path, and MkDocs
resolves the links as they stand; a file that a page links to and that is no page of the navigation
comes along as it is.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parent.parent
AT_ROOT = ("README.md", "REPRODUCTION.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")
"""Pages of the site that stand beside docs/, not in it."""
PLAIN = "llms.txt"
"""Goes to the root of the site, with the Markdown of the pages that it links to."""


def linked_files(path: Path) -> Iterator[str]:
    """The files that a page links to, as paths from the repository's root."""
    for target in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", path.read_text()):
        file = (path.parent / target).resolve()
        if file.is_file() and file.is_relative_to(ROOT):
            yield file.relative_to(ROOT).as_posix()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts all pages of a folder where the navigation has a pattern, the folder's README first."""
    config.nav = _expand(config.nav)
    return config


def _expand(nav: Any) -> Any:
    if isinstance(nav, list):
        return [_expand(entry) for entry in nav]
    if isinstance(nav, dict):
        return {title: _expand(entry) for title, entry in nav.items()}
    if "*" not in nav:
        return nav
    paths = sorted(ROOT.glob(nav), key=lambda path: (path.name != "README.md", path.name))
    return [path.relative_to(ROOT).as_posix() for path in paths]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Gives the files of docs/ their paths in the repository, and adds those beside it."""

    def add(path: str, **options: Any) -> None:
        destination = path.removeprefix("docs/").replace("README.md", "index.md")
        if path == "README.md":
            destination = path  # the index is docs/index.md
        destination = re.sub(r"\.md$", ".html", destination)
        files.append(
            File(
                path,
                str(ROOT),
                config.site_dir,
                config.use_directory_urls,
                dest_uri=destination,
                **options,
            )
        )

    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
        add(f"docs/{file.src_uri}", inclusion=file.inclusion)
    for path in AT_ROOT:
        add(path)
    unread = [ROOT / file.src_uri for file in files.documentation_pages()]
    while unread:
        for path in linked_files(unread.pop()):
            if files.get_file_from_path(path) is None:
                add(path, inclusion=InclusionLevel.NOT_IN_NAV)
                if path.endswith(".md"):
                    unread.append(ROOT / path)
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Makes each figure a link to itself: on a small screen that is the way to see it."""
    return re.sub(r'(<img [^>]*src="([^"]+)"[^>]*>)', r'<a href="\2">\1</a>', html)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Adds llms.txt, and the pages that it links to as they are written."""
    for path in (PLAIN, *linked_files(ROOT / PLAIN)):
        target = Path(config.site_dir) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)
