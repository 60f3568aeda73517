import doctest
import importlib
import re
from pathlib import Path

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
    assert capsys.readouterr().out.count("CONVERGED") == 2
    assert lp.Status(int(solved["result"].status)) == lp.Status.CONVERGED
    assert float(looped["rosenbrock"](looped["x"])) < 1e-6
    assert lp.Status(int(trained["result"].status)) == lp.Status.CONVERGED
    assert (tmp_path / "my_policy.safetensors").is_file()


@pytest.mark.parametrize(("page", "number"), [("minimize.md", 4), ("dense.md", 2)])
def test_snippets_of_a_page(page, number):
    """One after the other, with the assertions that they make."""
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
