"""Fills tables of the docs from what is shipped, records and results: `make docs`.

Each, and the policies' cards, stands between `<!-- its name -->` and `<!-- end -->`.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax_lbfgs_pi as lp
from benchmarks import solution
from benchmarks.report import cell
from examples.__main__ import NAMES as EXAMPLES
from examples.__main__ import RESULTS as OF_EXAMPLES
from jax_lbfgs_pi.evaluation.tables import Table, markdown
from jax_lbfgs_pi.files import write_atomically
from jax_lbfgs_pi.reproduce import overview, tables
from jax_lbfgs_pi.reproduce.artefacts import records_of
from jax_lbfgs_pi.reproduce.claims import by_optimizer, others
from jax_lbfgs_pi.reproduce.races import IN_FULL, LIMITED_SEEDS

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "reproduction"
OF_BENCHMARKS = ROOT / "benchmarks" / "results" / "cpu.json"
PEERS = ("jax", "optax", "scipy", "jaxopt")
FOR_ANY_PROBLEM = ("general", "dense", "rule")


def results() -> list[Table]:
    """The main experiment."""
    records = records_of(SHIPPED, "mnist-1x20")
    costs = tables.costs(records, "", overview.TARGETS, "num_evals")
    return [costs, *(overview.wins(records, name) for name in IN_FULL)]


def limited() -> list[Table]:
    """The policies trained with a limit on θ's gradient, and the paper's, side by side."""
    race = "mnist-1x20"
    return [overview.beside_the_papers(records_of(SHIPPED, race), race, IN_FULL)]


def trainings() -> list[Table]:
    """What another seed of the training with the limit changes."""
    race = "mnist-1x20"
    return [overview.over_trainings(records_of(SHIPPED, race), race, tuple(LIMITED_SEEDS))]


def cards() -> str:
    """The shipped policies' cards, the default's first."""
    others = (name for name in lp.list_policies() if name not in FOR_ANY_PROBLEM)
    cards = map(lp.policy_card, (*FOR_ANY_PROBLEM, *others))
    return "\n" + "\n".join(re.sub(r"^#", "##", card, flags=re.MULTILINE) for card in cards)


def example(name: str) -> str:
    """The races of an example, and where and when they were run."""
    result = json.loads(OF_EXAMPLES.read_text()).get(name)
    if result is None:
        return f"Not measured yet: `python -m examples {name}`.\n"
    tables = [
        Table(title, header, [[cell(value) for value in row] for row in rows])
        for title, (header, *rows) in result["tables"].items()
    ]
    return "\n".join(map(markdown, tables)) + _origin(result["provenance"], PEERS)


def time_to_solution() -> str:
    """Seconds, evaluations and compilation of the benchmark's part of that name."""
    result = json.loads(OF_BENCHMARKS.read_text())["solution"]
    tables = [
        Table(title, header, [[cell(value) for value in row] for row in rows])
        for title, header, rows in solution.table_rows(result)
    ]
    packages = (*PEERS, "optimistix", "torch")
    return "\n".join(map(markdown, tables)) + _origin(result["provenance"], packages)


def _origin(made: dict[str, Any], packages: tuple[str, ...]) -> str:
    versions = made["versions"]
    known = ", ".join(f"{name} {versions[name]}" for name in packages if name in versions)
    cores = "one shared core" if made["cores"] == 1 else f"{made['cores']} shared cores"
    return f"\n`{made['command']}`, {cores}, {known}, {made['date'][:10]}.\n"


def _in_markdown(tables_of: Callable[[], list[Table]]) -> Callable[[], str]:
    return lambda: "\n".join(markdown(table) for table in tables_of())


BLOCKS: dict[tuple[str, str], Callable[[], str]] = {
    ("docs/mnist.md", "results"): _in_markdown(results),
    ("docs/policies.md", "cards"): cards,
    **{("docs/examples.md", name): partial(example, name) for name in EXAMPLES},
    ("docs/speed.md", "solution"): time_to_solution,
    ("REPRODUCTION.md", "limited"): _in_markdown(limited),
    ("REPRODUCTION.md", "trainings"): _in_markdown(trainings),
    ("REPRODUCTION.md", "coverage"): _in_markdown(lambda: [overview.coverage(SHIPPED)]),
    ("REPRODUCTION.md", "claims"): _in_markdown(lambda: [by_optimizer(SHIPPED), others(SHIPPED)]),
}


def filled(name: str) -> str:
    """The text of a document with its blocks as records and cards have them.

    Raises:
      ValueError: if it has no place for one of them.
    """
    text = (ROOT / name).read_text()
    for (document, block), text_of in BLOCKS.items():
        if document != name:
            continue
        content = text_of()
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
