"""A table of text, as Markdown and for a terminal; numbers stand to the right."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table as RichTable

BLANK = {"", "–"}  # in a column of numbers
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*(?:e[-+]?\d+)?|∞|inf)(?=[\s%,;:]|$)", re.IGNORECASE)


class Table(NamedTuple):
    """A table of text.

    Attributes:
      title: what it shows.
      header: the names of its columns.
      rows: its cells; a column whose cells all begin with a number is one of numbers.
    """

    title: str
    header: list[str]
    rows: list[list[str]]


def numbers(cells: Sequence[str]) -> list[float | None] | None:
    """The number that each cell of a column begins with; None for a column of text.

    That is a column with a cell that begins with anything else. A blank cell has no number.
    """
    found = []
    for cell in cells:
        match = _NUMBER.match(cell.strip())
        if match is None and cell.strip() not in BLANK:
            return None
        found.append(match and float(match[0].replace(",", "").replace("∞", "inf")))
    return None if all(value is None for value in found) else found


def markdown(table: Table) -> str:
    """A table in Markdown, its title above."""
    rule = ["---:" if right else "---" for right in _to_the_right(table)]
    lines = ["| " + " | ".join(row) + " |" for row in (table.header, rule, *table.rows)]
    return "\n".join([f"**{table.title}**", "", *lines]) + "\n"


def for_terminal(table: Table) -> RichTable:
    """A table for a terminal of 80 columns."""
    made = RichTable(title=table.title, title_justify="left", padding=(0, 1), width=80)
    for name, right in zip(table.header, _to_the_right(table), strict=True):
        made.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in table.rows:
        made.add_row(*row)
    return made


def _to_the_right(table: Table) -> list[bool]:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.header)
    return [False, *(numbers(cells) is not None for cells in columns[1:])]


def in_script(number: float | None) -> str:
    """A number as JavaScript reads it; empty for None."""
    if number is None:
        return ""
    return repr(number) if math.isfinite(number) else f"{'-' if number < 0 else ''}Infinity"
