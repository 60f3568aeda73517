"""Runs the notebooks and keeps what they show, so that the web shows it: `make notebooks`.

What differs from run to run and says nothing is left out: times of execution, and what goes to
stderr. Each is written when it is done, so an interrupt loses at most one.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import nbclient
import nbformat

from jax_lbfgs_pi.files import write_atomically
from jax_lbfgs_pi.progress import make_bar

ROOT = Path(__file__).parent.parent
TIMEOUT = 1800  # seconds for one cell, on a slow and busy machine


def clean(notebook: Any) -> Any:
    """The notebook with outputs that are worth keeping."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "language_info": {"name": "python"},
    }
    return notebook


def run(path: Path) -> None:
    """Runs one from top to bottom in its folder.

    Raises:
      nbclient.exceptions.CellExecutionError: at the first cell that fails; the file stays as it is.
    """
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    write_atomically(path, nbformat.writes(clean(client.execute())) + "\n")


def main() -> None:
    """Runs those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m scripts.run_notebooks", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks (default: all)")
    paths = parser.parse_args().paths or sorted((ROOT / "notebooks").glob("*.ipynb"))
    os.environ["JAX_PLATFORMS"] = "cpu"
    with make_bar() as bar:
        for path in bar.track(paths, description="notebooks"):
            run(path)


if __name__ == "__main__":
    main()
