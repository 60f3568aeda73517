"""Fills the tables of docs/mnist.md and REPRODUCTION.md from the shipped records: `make docs`.

Each stands between `<!-- its name -->` and `<!-- end -->`.
"""

import re
from collections.abc import Callable
from pathlib import Path

from jax_lbfgs_pi.files import write_atomically
from jax_lbfgs_pi.reproduce import overview, tables
from jax_lbfgs_pi.reproduce.artefacts import records_of
from jax_lbfgs_pi.reproduce.claims import claims_table
from jax_lbfgs_pi.reproduce.races import IN_FULL
from jax_lbfgs_pi.reproduce.tables import Table, markdown

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "reproduction"


def results() -> list[Table]:
    """The main experiment."""
    records = records_of(SHIPPED, "mnist-1x20")
    costs = tables.costs(records, "", overview.TARGETS, "num_evals")
    return [costs, *(overview.wins(records, name) for name in IN_FULL)]


def limited() -> list[Table]:
    """The policies trained with a limit on θ's gradient, and the paper's, side by side."""
    race = "mnist-1x20"
    return [overview.beside_the_papers(records_of(SHIPPED, race), race, IN_FULL)]


BLOCKS: dict[tuple[str, str], Callable[[], list[Table]]] = {
    ("docs/mnist.md", "results"): results,
    ("REPRODUCTION.md", "limited"): limited,
    ("REPRODUCTION.md", "coverage"): lambda: [overview.coverage(SHIPPED)],
    ("REPRODUCTION.md", "claims"): lambda: [claims_table(SHIPPED)],
}


def filled(name: str) -> str:
    """The text of a document with its tables as the records have them.

    Raises:
      ValueError: if it has no place for one of them.
    """
    text = (ROOT / name).read_text()
    for (document, block), tables_of in BLOCKS.items():
        if document != name:
            continue
        content = "\n".join(markdown(table) for table in tables_of())
        pattern = rf"(<!-- {block} -->\n).*?(<!-- end -->)"
        text, count = re.subn(
            pattern, lambda m, new=content: m[1] + new + m[2], text, flags=re.DOTALL
        )
        if count != 1:
            raise ValueError(
                f"{name} must have one block between <!-- {block} --> and <!-- end -->."
            )
    return text


if __name__ == "__main__":
    for document in dict.fromkeys(name for name, _ in BLOCKS):
        write_atomically(ROOT / document, filled(document))
