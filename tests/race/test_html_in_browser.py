"""The report in a browser: it fits, sorts, asks for nothing and complains of nothing."""

import pytest
from matplotlib.figure import Figure

from jax_lbfgs_pi.evaluation import save_figure
from jax_lbfgs_pi.evaluation.html import Picture, page
from tests import browser
from tests.race.test_html import BAD, COSTS, table

pytestmark = pytest.mark.skipif(browser.find() is None, reason="needs chromium on PATH")

HEADS = "document.querySelectorAll('thead th')"
SORTED = f"[...{HEADS}].slice(0, 4).map((head) => head.getAttribute('aria-sort'))"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    figure = save_figure(Figure(figsize=(11.2, 8.4)), folder / "a.png")
    wide = table("A wide table " * 9, ["", *"abcdefgh"], [[BAD, *["1,234 (56)"] * 8]] * 60)
    sections = {
        "Results": [BAD, COSTS, wide],
        "Figures": [Picture("A figure", BAD, figure.read_bytes())],
        "Settings": [{"digest": "0123456789abcdef" * 8, BAD: BAD}],
    }
    path = folder / "report.html"
    path.write_text(page(BAD, sections))
    return path


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.tab(tmp_path_factory.mktemp("profile")) as found:
        yield found


def column(tab, index):
    return tab.value(
        f"[...document.querySelector('tbody').rows].map((row) => row.cells[{index}].textContent)"
    )


@pytest.mark.parametrize("width", [375, 1440])
def test_the_page_does_not_scroll_sideways(tab, report, width):
    tab.open(report, width)
    assert tab.value("innerWidth") == width
    assert tab.value("document.documentElement.scrollWidth") <= width
    boxes = tab.value(
        "[...document.querySelectorAll('.scroll')].map((box) => box.scrollWidth > box.clientWidth)"
    )
    assert boxes == [width == 375, True, width == 375]  # what is wider scrolls in its own box


def test_it_asks_for_nothing_and_complains_of_nothing(tab, report):
    tab.open(report, 1440)
    tab.click(f"{HEADS}[1].firstChild")
    kinds = [event["method"] for event in tab.events]
    asked = [
        event["params"]["request"]["url"] for event in tab.events
        if event["method"] == "Network.requestWillBeSent"
    ]  # fmt: skip
    assert report.as_uri() in asked
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    for kind in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown",
                 "Page.javascriptDialogOpening"):  # fmt: skip
        assert kind not in kinds


def test_a_click_and_the_enter_key_sort_by_a_column(tab, report):
    tab.open(report, 1440)
    cells = column(tab, 1)
    assert tab.value(SORTED) == [None] * 4
    tab.click(f"{HEADS}[1].firstChild")
    assert column(tab, 1) == ["9 [8–11]", "27 (100)", "1,030 (50)", "∞ (0)"]
    assert tab.value(SORTED) == [None, "ascending", None, None]
    tab.press_enter()  # the click left the focus there
    assert column(tab, 1) == ["∞ (0)", "1,030 (50)", "27 (100)", "9 [8–11]"]
    assert tab.value(SORTED) == [None, "descending", None, None]
    tab.click(f"{HEADS}[2].firstChild")  # blank cells stay last
    assert column(tab, 2) == ["-2%", "+4.5e-01", "33.3 / 0.0", "–"]
    assert tab.value(SORTED) == [None, None, "ascending", None]
    tab.press_enter()
    assert column(tab, 2) == ["33.3 / 0.0", "+4.5e-01", "-2%", "–"]
    tab.click(f"{HEADS}[0].firstChild")
    assert column(tab, 0) == ["ADAM", "L-BFGS-π", "Prodigy", "SciPy"]
    assert sorted(column(tab, 1)) == sorted(cells)


def test_dark_is_dark_but_for_figures_and_prints_are_light(tab, report):
    def colours():
        return tab.value(
            "['body', 'img'].map((name) => "
            "getComputedStyle(document.querySelector(name)).backgroundColor)"
        )

    white = "rgb(255, 255, 255)"
    tab.open(report, 1440)
    assert colours() == [white, white]
    tab.open(report, 1440, scheme="dark")
    body, image = colours()
    assert image == white
    assert max(map(int, body[4:-1].split(","))) < 64
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    tab.ask("Emulation.setEmulatedMedia", media="print", features=[feature])
    assert colours() == [white, white]
    assert tab.value("document.querySelector('img').getBoundingClientRect().height") <= 840
