import doctest
import importlib
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
DOCUMENTED = ["jax_lbfgs_pi.transform", "jax_lbfgs_pi.minimize", "jax_lbfgs_pi.tasks.base"]


def test_snippets_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(snippets) == 3
    namespace = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)
    assert "CONVERGED" in capsys.readouterr().out
    assert float(namespace["rosenbrock"](namespace["x"])) < 1e-6
    assert (tmp_path / "my_policy.safetensors").is_file()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstring_examples(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted > 0
    assert failed == 0
