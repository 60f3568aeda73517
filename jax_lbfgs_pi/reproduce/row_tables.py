"""Tables of rows in gzipped CSV: how the records that the repository ships are stored."""

import csv
import gzip
import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax_lbfgs_pi.files import write_atomically

Row = dict[str, Any]
"""One run: `task`, `optimizer`, `status`, `iterations`, `num_evals`, `seconds`, `min_value`,
`final_value`, `plateau`, and the costs of the targets under the names that `records.hit` gives; a
target that was not met costs infinity."""


def write_table(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Writes rows as gzipped CSV, the same bytes for the same rows.

    Raises:
      ValueError: if they have different columns.
    """
    names = list(rows[0])
    other = next((row for row in rows if set(row) != set(names)), None)
    if other is not None:
        raise ValueError(
            f"The records for {str(path)!r} have different columns, as {other['optimizer']!r} on "
            f"task {other['task']} shows: delete those of the older version, and run them again."
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _short(v) for k, v in row.items()} for row in rows)
    write_atomically(path, gzip.compress(text.getvalue().encode(), mtime=0))


def read_table(path: str | os.PathLike[str]) -> list[Row]:
    """Reads what `write_table` wrote.

    Raises:
      ValueError: if the file is damaged.
    """
    try:
        text = gzip.decompress(Path(path).read_bytes()).decode()
        header, *lines = csv.reader(io.StringIO(text))
        rows = [dict(zip(header, line, strict=True)) for line in lines]
        if not {"task", "optimizer"} <= set(header):
            raise ValueError("no header")
        return [
            {name: cell if name == "optimizer" else _number(cell) for name, cell in row.items()}
            for row in rows
        ]
    except (OSError, EOFError, ValueError, TypeError, zlib.error) as error:
        raise ValueError(
            f"The records in {str(path)!r} are damaged: restore the file, or delete it and run "
            f"the race again."
        ) from error


def _short(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else value


def _number(cell: str) -> int | float:
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)
