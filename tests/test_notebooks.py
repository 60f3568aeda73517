"""The notebooks run from top to bottom, and are committed with what they show."""

import re
from pathlib import Path

import pytest

from tests.marks import some_of

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TIMEOUT = 600  # seconds for one cell, on a slow and busy machine
STRICT = """
import warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", module="ipykernel")  # of itself, as it shuts down
# As in pyproject.toml: an entry that another process is writing.
warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")
"""

by_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
one_at_once = pytest.mark.parametrize(
    "path", some_of(NOTEBOOKS, quick=(2,)), ids=lambda path: path.stem
)


def test_there_are_notebooks():
    assert NOTEBOOKS


@one_at_once
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    # Nothing of the user's own set-up is read, and nothing is written outside `tmp_path`.
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    if (ROOT / "reproduction").is_dir():  # records that a notebook may read, beside its folder
        (tmp_path / "reproduction").symlink_to(ROOT / "reproduction")

    notebook = nbformat.read(path, as_version=4)
    # Not PYTHONWARNINGS=error, on which the kernel itself would trip.
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
    client = nbclient.NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()  # raises CellExecutionError at the first cell that fails
    assert not list(folder.iterdir()), "a notebook leaves no files behind"


@by_notebook
def test_is_committed_with_what_it_shows(path):
    """Run in order, in one go, without a warning and with a figure: `make notebooks`."""
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [out for cell in code for out in cell.outputs]
    assert not [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert not [cell.id for cell in code if "execution" in cell.metadata]
    assert path.stat().st_size < 1_000_000
    assert not re.search(r"/(home|root|Users|tmp)/", path.read_text()), "a machine's paths"
