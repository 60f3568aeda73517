"""The pages of the site: nothing is missing, and what is generated is up to date.

That all links lead somewhere is checked by `make docs`, and by test_readme.py.
"""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

import jax_lbfgs_pi as lp
from scripts import draw_method
from scripts.fill_docs import filled

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def entries(nav):
    if isinstance(nav, list):
        return [path for entry in nav for path in entries(entry)]
    if isinstance(nav, dict):
        return entries(list(nav.values()))
    return [path.relative_to(ROOT).as_posix() for path in ROOT.glob(nav)]


def test_every_page_is_in_the_navigation_once():
    found = entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(found) == len(set(found))
    assert {f"docs/{path.relative_to(DOCS)}" for path in DOCS.rglob("*.md")} <= set(found)


def test_the_page_of_public_names_has_them_all():
    text = (DOCS / "api.md").read_text()
    paths = re.findall(r"^::: (jax_lbfgs_pi\.\S+)$", text, re.MULTILINE)
    names = [path.rpartition(".")[2] for path in paths]
    assert sorted([*names, "__version__"]) == sorted(lp.__all__)
    for path, name in zip(paths, names, strict=True):
        # What is read without running it is the module where a function has the same name.
        is_module = importlib.util.find_spec(path) if path.count(".") == 1 else None
        assert (is_module is None) != (name == "bounds"), path
        if not is_module:
            module = importlib.import_module(path.rpartition(".")[0])
            assert getattr(module, name) is getattr(lp, name)
    assert "`lp.__version__`" in text


def test_cards_are_those_of_the_shipped_policies():
    """`python -m scripts.fill_docs` copies them."""
    text = (DOCS / "policies.md").read_text()
    assert filled("docs/policies.md") == text
    headings = re.findall(r"^## (\S+)$", text, re.MULTILINE)
    assert sorted(headings) == lp.list_policies()


def test_calls_and_pages_in_the_summary_are_there():
    text = (ROOT / "llms.txt").read_text()
    calls = re.findall(r"\blp\.((?:bounds\.)?\w+)", text)
    assert {"minimize", "lbfgs_pi", "bounds.tree"} < set(calls)
    for name in calls:
        part = lp
        for attribute in name.split("."):
            part = getattr(part, attribute)
    pages = re.findall(r"\]\(([^)]+)\)", text)
    assert {f"docs/{path.name}" for path in DOCS.glob("*.md")} <= set(pages)
    assert all((ROOT / page).is_file() for page in pages)


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == lp.__version__
    assert {"cff-version", "message", "title", "authors"} < set(cited)
    (paper,) = cited["references"]
    assert paper["title"] in " ".join((ROOT / "README.md").read_text().split())


@pytest.mark.slow
def test_the_page_on_the_method_says_what_its_runs_do():
    text = " ".join((DOCS / "method.md").read_text().split())
    runs, target = draw_method.runs(), draw_method.TARGET
    took = {name: run.evals_to(target) for name, run in runs.items()}
    rejected = {name: int(run.rejected.sum()) for name, run in runs.items()}
    assert rejected["plane"] == 0
    assert f"L-BFGS-π takes {took['plane']} evaluations, none of them rejected" in text
    aside = int((~runs["zoom"].ends).sum())
    assert f"`optax.lbfgs` takes {took['zoom']}, of which {aside} (crosses)" in text
    # Long runs part by rounding, which compilers choose.
    said = re.search(
        r"The rule takes (\d+) evaluations, \d+ of them rejected, `general` (\d+)", text
    )
    for name, number in zip(("rule", "many"), said.groups(), strict=True):
        assert took[name] == pytest.approx(int(number), rel=0.1)
    assert rejected["rule"] > rejected["many"] > 0
