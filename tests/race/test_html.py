"""The report as a page: whole, escaped, of itself alone."""

import base64
import hashlib
import re

import pytest
from matplotlib.figure import Figure
from rich.table import Table

from jax_lbfgs_pi.evaluation import save_figure
from jax_lbfgs_pi.evaluation.html import Picture, page
from tests.pages import Page

BAD = "<script>alert(1)</script> & \"quoted\" 'too'"


def table(title, header, rows):
    out = Table(title=title)
    for i, name in enumerate(header):
        out.add_column(name, justify="right" if i else "left")
    for row in rows:
        out.add_row(*row)
    return out


COSTS = table(
    "Evaluations",
    ["", "‖g‖<1e-3", "wins", "rival"],
    [
        ["L-BFGS-π", "27 (100)", "–", "ADAM"],
        ["ADAM", "∞ (0)", "33.3 / 0.0", "SciPy"],
        ["SciPy", "1,030 (50)", "+4.5e-01", "ADAM"],
        ["Prodigy", "9 [8–11]", "-2%", ""],
    ],
)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = save_figure(Figure(figsize=(4.0, 2.0)), tmp_path_factory.mktemp("figure") / "a.png")
    return Picture("A figure", "It shows nothing.", path.read_bytes())


def test_a_page_has_what_it_is_given_in_order(picture):
    about = {"max_iters": 800, "guard": True, "split": None, "names": ["a", "b"]}
    read = Page(page("A race", {"Results": ["Two tasks.", COSTS], "Figures": [picture],
                                "Empty": [], "Settings": [about]}))  # fmt: skip
    assert read.texts["title"] == read.texts["h1"] == ["A race"]
    assert read.texts["h2"] == ["Results", "Figures", "Settings"]
    assert read.texts["p"] == ["Two tasks."]
    assert read.texts["figcaption"] == ["Evaluations", "A figure. It shows nothing."]
    assert read.texts["dt"] == ["max_iters", "guard", "split", "names"]
    assert read.texts["dd"] == ["800", "yes", "–", "a, b"]
    ((head, *rows),) = read.tables
    assert head == ["", "‖g‖<1e-3", "wins", "rival"]
    columns = [list(column.cells) for column in COSTS.columns]
    assert [list(column) for column in zip(*rows, strict=True)] == columns
    ((image, _),) = [(attrs, tag) for tag, attrs in read.tags if tag == "img"]
    kind, data = image["src"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data, validate=True) == picture.png
    assert (image["alt"], image["width"], image["height"]) == ("A figure", "384", "192")


def test_numbers_are_sorted_as_numbers_and_blanks_have_none():
    ((_, *values),) = Page(page("", {"Results": [COSTS]})).values
    assert [row[1] for row in values] == ["27.0", "Infinity", "1030.0", "9.0"]
    assert [row[2] for row in values] == ["", "33.3", "0.45", "-2.0"]
    for column in (0, 3):  # text
        assert {row[column] for row in values} == {None}
    mixed = table("", ["", "x"], [["a", "2-dimensional"], ["b", "3"]])
    assert Page(page("", {"Results": [mixed]})).values[0][1:] == [[None, None], [None, None]]


@pytest.mark.parametrize("where", ["title", "head", "paragraph", "cell", "caption", "setting"])
def test_what_is_handed_over_is_text(picture, where):
    text = dict.fromkeys(("title", "head", "paragraph", "cell", "caption", "setting"), "plain")
    text[where] = BAD
    read = Page(page(text["title"], {text["head"]: [
        text["paragraph"],
        table(text["cell"], ["", text["cell"]], [[text["cell"], "1"]]),
        Picture(text["caption"], text["caption"], picture.png),
        {text["setting"]: text["setting"]},
    ]}))  # fmt: skip
    assert len(read.texts["script"]) == 1
    assert "alert" not in read.texts["script"][0]
    tag = {"title": "h1", "head": "h2", "paragraph": "p", "cell": "td", "caption": "figcaption",
           "setting": "dd"}[where]  # fmt: skip
    found = read.tables[0][0][1] if where == "cell" else read.texts[tag][-1]
    assert found in (BAD, f"{BAD}. {BAD}")


def test_only_its_own_script_may_run_and_nothing_may_be_fetched():
    read = Page(page("", {"Results": [COSTS]}))
    (policy,) = [
        attrs["content"] for tag, attrs in read.tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]  # fmt: skip
    assert "default-src 'none'" in policy
    (script,) = read.texts["script"]
    (sha,) = re.findall(r"script-src 'sha256-([^']+)'", policy)
    assert base64.b64decode(sha) == hashlib.sha256(script.encode()).digest()
    (style,) = read.texts["style"]
    assert "url(" not in style
    assert "@import" not in style
