import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import jax_lbfgs_pi as lp

ROOT = Path(__file__).parent.parent
README, MINIMIZE = ROOT / "README.md", ROOT / "docs" / "minimize.md"
DOCUMENTED = ["jax_lbfgs_pi.transform", "jax_lbfgs_pi.minimize", "jax_lbfgs_pi.tasks.base"]


def snippets_of(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def test_each_snippet_runs_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spaces = []
    for snippet in snippets_of(README):
        spaces.append({})
        exec(compile(snippet, "README.md", "exec"), spaces[-1])
    solved, looped, trained = spaces
    out = capsys.readouterr().out
    assert "CONVERGED" in out
    assert "on 12 held-out tasks" in out
    for one in (solved["result"], solved["long"], trained["result"]):
        assert lp.Status(int(one.status)) == lp.Status.CONVERGED
    # Of 10 variables it has a second minimum, of f = 3.99.
    least = np.minimum(solved["results"].value, np.abs(solved["results"].value - 3.98658))
    assert np.mean(least < 1e-4) > 0.99
    assert float(looped["rosenbrock"](looped["x"])) < 1e-6


@pytest.mark.parametrize(
    ("page", "number"),
    [
        ("index.md", 2),
        ("minimize.md", 5),
        ("howto.md", 9),
        # What it shows is tested in test_wrappers.py too.
        pytest.param("libraries.md", 5, marks=pytest.mark.slow),
        ("dense.md", 2),
        ("moving.md", 3),
        ("your_tasks.md", 3),
    ],
)
def test_snippets_of_a_page(page, number, tmp_path, monkeypatch):
    """One after the other, with the assertions that they make."""
    monkeypatch.chdir(tmp_path)
    snippets = snippets_of(ROOT / "docs" / page)
    assert len(snippets) == number
    namespace = {}
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), namespace)


def test_the_page_on_minimize_has_each_status_in_the_order_in_which_they_count():
    rows = re.findall(r"^\| `([A-Z_]+)` \|", MINIMIZE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(status.name for status in lp.Status)
    order = re.search(r"in which they count: ([A-Z_,\s]+)\.", lp.Status.__doc__)
    assert [*re.split(r",\s+", order[1]), "RUNNING"] == rows


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstring_examples(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted > 0
    assert failed == 0


def test_the_front_page_is_one_and_what_it_points_to_is_there():
    assert len(README.read_text().splitlines()) <= 120
    for page in (README, *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "research").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"
