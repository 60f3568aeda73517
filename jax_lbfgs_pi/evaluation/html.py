"""Results as one HTML page that needs nothing beside it: no request, no server, no JavaScript.

Figures are data URIs; a few lines of script (`page.js`) make the tables sortable.
"""

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from rich.table import Table

from jax_lbfgs_pi.evaluation.figures import DPI
from jax_lbfgs_pi.evaluation.tables import in_script, numbers

CSS_DPI = 96


class Picture(NamedTuple):
    """A figure.

    Attributes:
      title: a few words, which also stand for the figure where it cannot be seen.
      caption: what it shows.
      png: the image.
    """

    title: str
    caption: str
    png: bytes


Block = str | Table | Picture | Mapping[str, Any]
"""A paragraph, a table as it is printed, a figure, or things by name."""


def page(title: str, sections: Mapping[str, Sequence[Block]]) -> str:
    """A report as an HTML page.

    Whatever is handed over is text, never markup: it is escaped, and the page forbids its browser
    all scripts but its own, and all requests.

    Args:
      title: of the report.
      sections: by heading, their blocks in order; a section without any is left out.

    Returns:
      The page.
    """
    body = "\n".join(_section(head, blocks) for head, blocks in sections.items() if blocks)
    style, script = _file("page.css"), _file("page.js")
    allowed = f"script-src 'sha256-{_base64(hashlib.sha256(script.encode()).digest())}'"
    allowed = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {allowed}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{allowed}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{html.escape(title)}</h1>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _file(name: str) -> str:
    return resources.files("jax_lbfgs_pi.evaluation").joinpath(name).read_text(encoding="utf-8")


def _section(heading: str, blocks: Sequence[Block]) -> str:
    inner = "\n".join(map(_block, blocks))
    return f"<section>\n<h2>{html.escape(heading)}</h2>\n{inner}\n</section>"


def _block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{html.escape(block)}</p>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Picture):
        return _picture(block)
    rows = (f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in block.items())
    return "<dl>\n" + "\n".join(rows) + "\n</dl>"


def _text(value: Any) -> str:
    """A setting for people."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else html.escape(str(value))


def _scroller(title: str, caption: str, inner: str) -> str:
    """A figure whose content scrolls in a box of its own, by the keyboard too."""
    return (
        f"<figure>\n<figcaption>{caption}</figcaption>\n"
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(title)}">\n'
        f"{inner}\n</div>\n</figure>"
    )


def _picture(picture: Picture) -> str:
    title = html.escape(picture.title)
    # Of a PNG, bytes 16 to 24 are the size in pixels; it is shown at the size of its figure.
    size = (int.from_bytes(picture.png[i : i + 4], "big") for i in (16, 20))
    width, height = (round(pixels * CSS_DPI / DPI) for pixels in size)
    source = f"data:image/png;base64,{_base64(picture.png)}"
    image = f'<img alt="{title}" width="{width}" height="{height}" src="{source}">'
    caption = f"<strong>{title}.</strong> {html.escape(picture.caption)}"
    return _scroller(picture.title, caption, image)


def _table(table: Table) -> str:
    """A table as rich prints it; its cells carry the numbers that they are sorted by."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    values = [numbers(cells) for cells in columns]
    sides = [' class="right"' if column.justify == "right" else "" for column in table.columns]
    heads = (
        f'<th scope="col"{side}>{html.escape(str(column.header))}</th>'
        for column, side in zip(table.columns, sides, strict=True)
    )
    rows = []
    for i in range(table.row_count):
        cells = []
        for j, (side, texts, found) in enumerate(zip(sides, columns, values, strict=True)):
            tag, scope = ("td", "") if j else ("th", ' scope="row"')
            value = "" if found is None else f' data-value="{in_script(found[i])}"'
            cells.append(f"<{tag}{scope}{side}{value}>{html.escape(texts[i])}</{tag}>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head, body = f"<tr>{''.join(heads)}</tr>", "\n".join(rows)
    title = str(table.title or "Table")
    inner = f"<table>\n<thead>\n{head}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    return _scroller(title, html.escape(title), inner)
