"""Cells and tables, and what they say at a glance."""

import math

import numpy as np
import pytest

from jax_lbfgs_pi.evaluation import Target
from jax_lbfgs_pi.evaluation.tables import Table, markdown
from jax_lbfgs_pi.reproduce import overview, races, tables
from jax_lbfgs_pi.reproduce.records import Records
from jax_lbfgs_pi.reproduce.statistics import Estimate, mean_of
from jax_lbfgs_pi.reproduce.tables import interval, number
from tests.hand_made import PAPERS, PI, fill_race, make_row, records_of, write_log

INF = math.inf
G3, G5 = Target("grad_norm", 1e-3), Target("grad_norm", 1e-5)


# --- cells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (-1.0, "-1"),
        (54.91, "54.9"),
        (54.96, "55"),
        (100.0, "100"),
        (0.5, "0.5"),
        (0.012345, "0.0123"),
        (0.001, "0.001"),
        (0.00099, "9.90e-04"),
        (1.234e-9, "1.23e-09"),
        (-1.234e-9, "-1.23e-09"),
        (1e-300, "1.00e-300"),
        (1234.0, "1230"),
        (999_999.0, "1000000"),
        (1e6, "1.00e+06"),
        (-1.5e6, "-1.50e+06"),
        (1.7876931348623157e308, "1.79e+308"),
        (INF, "∞"),
        (-INF, "-∞"),
        (math.nan, "–"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text
    if math.isfinite(value):
        assert float(text) == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize("digits", [1, 2, 4, 6])
def test_digits(digits):
    for value in np.random.default_rng(0).lognormal(sigma=12, size=100):
        text = number(float(value), digits)
        assert float(text) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits))
        mantissa = text.split("e")[0].replace(".", "").strip("0")
        assert len(mantissa) <= digits


def test_intervals_in_words():
    assert interval(Estimate(54.91, 51.84, 58.0, 1000)) == "54.9 [51.8, 58]"
    assert interval(Estimate(INF, 103.0, INF, 3)) == "∞ [103, ∞]"
    assert interval(Estimate(math.nan, math.nan, math.nan, 0)) == "–"


def test_markdown_is_a_table():
    rows = [["a", "1", "2", "ADAM"], ["b", "∞", "–", "3 of ADAM"]]
    assert markdown(Table("A title", ["", "x", "y", "who"], rows)) == (
        "**A title**\n\n|  | x | y | who |\n| --- | ---: | ---: | --- |\n"
        "| a | 1 | 2 | ADAM |\n| b | ∞ | – | 3 of ADAM |\n"
    )


# --- tables ---------------------------------------------------------------------------------------

# SPEC §7, copied as it stands there.
PAPERS_TABLE = """
| ADAM | 0/0, 95.8/4.2, 90.9/9.1 | 4.7/0, 5.8/0, 10.5/0 | 0/0, 0.1/0, 0.2/0.1 |
| RMSProp | 5.5/0, 95.8/4.2, 90.9/9.1 | 100/0, 100/0, 100/0 | 92.7/7.3, 81.0/19.0, 67.2/32.8 |
| L-BFGS-B | 32.1/0, 49.3/0.5, 54.9/3.3 | 5.7/0, 5.5/0, 5.5/0 | 9.2/1.2, 8.5/2.1, 7.6/3.0 |
| L-BFGS-BTLS | 40.8/0, 55.6/0.6, 59.0/2.5 | 1.0/0, 1.0/0, 1.2/0 | 0/0, 0/0, 0/0 |
"""
RACES = {
    "mnist-1x20": ("1e-3", "1e-4", "1e-5"),
    "mnist-2x400": ("1e-5", "1e-6", "1e-7"),
    "mnist-4x800": ("1e-5", "1e-6", "1e-7"),
}
PAPERS_CELLS = {
    (name.strip(), race): [tuple(float(x) for x in pair.split("/")) for pair in cell.split(",")]
    for name, *cells in (line.strip("| ").split("|") for line in PAPERS_TABLE.strip().splitlines())
    for race, cell in zip(RACES, cells, strict=True)
}


@pytest.mark.parametrize("race", RACES)
@pytest.mark.parametrize("cost", ["seconds", "num_evals"])
def test_table_1(race, cost):
    """Ours from hand-made costs, the paper's from SPEC §7, each under its level."""
    levels = RACES[race]
    names = ("prodigal", *PAPERS)
    # Against the i-th competitor at the j-th level π wins i + j of ten tasks; it ties on one.
    rows = [make_row(t, PI, evals={f"‖g‖<{x}": 5.0 for x in levels},
                     times={f"‖g‖<{x}": 5.0 for x in levels}) for t in range(10)]  # fmt: skip
    for i, name in enumerate(names):
        for t in range(10):
            costs = {
                f"‖g‖<{level}": 5.0 if t == 9 else 6.0 if t < i + j else 4.0
                for j, level in enumerate(levels)
            }
            # By the other cost, π always loses.
            other = dict.fromkeys(costs, 1.0)
            mine, others = (costs, other) if cost == "num_evals" else (other, costs)
            rows.append(make_row(t, name, evals=mine, times=others))
    table = tables.table1(Records(rows), race, PI, cost)
    assert table.header[:2] == ["against", "tasks"]
    assert table.header[3::2] == ["paper"] * 3
    for j, level in enumerate(levels):
        assert table.header[2 + 2 * j].endswith(f"‖g‖<{level}")
    assert race in table.title
    assert PI in table.title
    assert table.title.endswith("by " + {"seconds": "seconds", "num_evals": "evaluations"}[cost])
    assert [row[0] for row in table.rows] == list(names)
    for i, row in enumerate(table.rows):
        assert row[1] == "10"
        for j in range(3):
            ours, paper = row[2 + 2 * j : 4 + 2 * j]
            w, _, t = ours.replace(" [", "|").replace("] / ", "|").split("|")
            assert (float(w), float(t)) == (10.0 * (i + j), 10.0)
            if row[0] == "prodigal":
                assert paper == "–"
            else:
                assert tuple(map(float, paper.split(" / "))) == PAPERS_CELLS[row[0], race][j]


def test_the_papers_numbers_are_all_there():
    assert len(PAPERS_CELLS) == 12
    assert {race: set(cells) for race, cells in tables.PAPER_TABLE1.items()} == {
        race: set(PAPERS) for race in RACES
    }


def test_table_of_costs():
    costs = {PI: [5.0, 7.0, 6.0, INF], "ADAM": [INF, INF, 9.0, INF]}
    table = tables.costs(records_of(costs), "some race", (G3, G5), "num_evals")
    assert table.header == ["", "tasks", "‖g‖<1e-3", "‖g‖<1e-5"]
    assert "some race" in table.title
    assert "evaluations" in table.title
    assert [row[:2] for row in table.rows] == [[PI, "4"], ["ADAM", "4"]]
    (_, _, mine, mine5), (_, _, adam, _) = table.rows
    assert mine.startswith("6 [5, ")
    assert mine.endswith(" (75 %)")
    assert adam == "∞ [9, ∞] (25 %)"
    assert mine5 == "∞ [∞, ∞] (0 %)"
    seconds = tables.costs(records_of(costs), "some race", (G3,), "seconds")
    assert seconds.rows[0][2].startswith("0.6 [0.5, ")


def test_table_of_advantages():
    rows = []
    for task in range(3):
        rows.append(make_row(task, PI, min_value=1.0, final_value=math.e**task))
        rows.append(make_row(task, "ADAM", min_value=math.e**0.5, final_value=1.0))
        if task < 2:
            rows.append(make_row(task, "π_C", min_value=math.e**-2, final_value=1.0))
    table = tables.advantage_table(Records(rows), "cifar", (PI, "π_C"))
    cells = {tuple(row[:2]): row[2:] for row in table.rows}
    assert list(cells) == [(PI, "ADAM"), (PI, "π_C"), ("π_C", PI), ("π_C", "ADAM")]
    assert cells[PI, "ADAM"] == ["3", "0.5 [0.5, 0.5]", "-1 [-2, 0]"]
    assert cells[PI, "π_C"][:2] == ["2", "-2 [-2, -2]"]
    assert cells["π_C", PI][:2] == ["2", "2 [2, 2]"]
    assert cells["π_C", "ADAM"] == ["2", "2.5 [2.5, 2.5]", "0 [0, 0]"]
    assert len(table.header) == 5
    assert "cifar" in table.title


def test_table_of_endings():
    nan = math.nan
    rows = [
        make_row(t, "ADAM", plateau=int(t < 1), min_value=m, final_value=f, seconds=s, num_evals=n)
        for t, (m, f, s, n) in enumerate(
            [
                (2.0, 3.0, 1.0, 100),
                (1.0, nan, 2.0, 100),
                (0.5, INF, 6.0, 200),
                (0.25, 4.0, 4.0, 100),
            ]
        )
    ]
    table = tables.endings(Records(rows), "some race")
    # Medians as order statistics; ms: of 10, 20, 30, 40, the middle of both.
    assert table.rows == [["ADAM", "4", "25", "0.5", "4", "25"]]
    assert len(table.header) == 6
    lost = [make_row(t, "ADAM", final_value=nan) for t in range(3)]
    assert tables.endings(Records(lost), "").rows[0][4] == "∞"


# --- at a glance ----------------------------------------------------------------------------------


def test_the_tables_of_the_readme():
    """Three tasks: L-BFGS-B is second, ties, and never arrives at 1e-3; f is e² times π's."""
    rows = [make_row(t, PI, evals={"‖g‖<1e-3": 5.0 + t}, min_value=1.0) for t in range(3)]
    rows += [
        make_row(t, "L-BFGS-B", evals={"‖g‖<1e-3": cost}, min_value=math.e**2)
        for t, cost in enumerate((9.0, 6.0, INF))
    ]
    records = Records(rows)
    costs = tables.costs(records, "", overview.TARGETS, "num_evals")
    wins = overview.wins(records)
    assert costs.title == "Evaluations to a target, median [95 %] (tasks that meet it)"
    assert costs.header[2:] == ["‖g‖<1e-3", "‖g‖<1e-4", "‖g‖<1e-5", "f<1e-2"]
    assert [row[:3] for row in costs.rows] == [
        [PI, "3", "6 [5, 7] (100 %)"], ["L-BFGS-B", "3", "9 [6, ∞] (66.7 %)"],
    ]  # fmt: skip
    assert costs.rows[0][3] == "∞ [∞, ∞] (0 %)"
    assert wins.rows == [["L-BFGS-B", "3", "67 / 33", *["0 / 100"] * 3, "+2 [2, 2]"]]


def test_policies_beside_the_papers():
    """At 1e-3 π is ahead of L-BFGS-B once in four; backtracking ties; the others never arrive."""
    rows = [make_row(t, PI, evals={"‖g‖<1e-3": 5.0}) for t in range(4)]
    rows += [make_row(t, "L-BFGS-B", evals={"‖g‖<1e-3": 4.0 if t else 6.0}) for t in range(4)]
    rows += [make_row(t, "L-BFGS-BTLS", evals={"‖g‖<1e-3": 5.0}) for t in range(4)]
    rows += [make_row(t, name) for t in range(4) for name in ("ADAM", "RMSProp")]
    table = overview.beside_the_papers(Records(rows), "mnist-1x20", [PI])
    assert table.header[2:] == [PI]
    found = {name: (papers, ours) for name, papers, ours in table.rows}
    assert len(found) == 12
    assert found["L-BFGS-B, ‖g‖<1e-3"] == ("32.1 / 0", "25 [0, 75] / 0")
    assert found["L-BFGS-BTLS, ‖g‖<1e-3"] == ("40.8 / 0", "0 [0, 0] / 100")
    assert found["ADAM, ‖g‖<1e-3"] == ("0 / 0", "100 [100, 100] / 0")
    assert found["RMSProp, ‖g‖<1e-5"] == ("90.9 / 9.1", "0 [0, 0] / 100")


def test_what_another_training_changes():
    """Of the three tasks that all have run, the trainings win 2, 1 and 3; a fourth is seed 1's."""
    names = [PI, f"{PI}, seed 1", f"{PI}, seed 2"]
    rows = [make_row(t, "L-BFGS-B", evals={"‖g‖<1e-5": 5.0}) for t in range(4)]
    for name, costs in zip(names, ((4, 4, 6), (6, 4, 6, 4), (1, 2, 3)), strict=True):
        rows += [make_row(t, name, evals={"‖g‖<1e-5": float(c)}) for t, c in enumerate(costs)]
    rows += [make_row(t, a) for t in range(3) for a in ("ADAM", "RMSProp", "L-BFGS-BTLS")]
    table = overview.over_trainings(Records(rows), "mnist-1x20", [*names, "not run"])
    assert table.title.startswith("first in % of 3 tasks (W)")
    assert table.header[2:] == ["seed 0", "seed 1", "seed 2", "mean"]
    found = {row[0]: row[1:] for row in table.rows}
    mean = tables.interval(mean_of([200 / 3, 100 / 3, 100.0])._replace(low=0.0, high=100.0))
    assert found["L-BFGS-B, ‖g‖<1e-5"] == ["54.9", "66.7", "33.3", "100", mean]
    assert found["ADAM, ‖g‖<1e-5"][1:] == ["100"] * 3 + ["100 [100, 100]"]


def test_how_much_has_been_run(tmp_path):
    def run():
        return {name: (planned, done) for name, planned, done in overview.coverage(tmp_path).rows}

    nothing = run()
    assert {done for name, (_, done) in nothing.items() if "seeds" not in name} == {"0"}
    assert nothing["Table 1, Fig. 3, 4, 5, 7, 8: MNIST (1,20), tasks"][0] == "1,000"
    assert set(overview.RACE_NAMES) == set(races.RACES)
    fill_race(tmp_path, "mnist-4x800", [make_row(t, PI) for t in (0, 4, 8)])
    fill_race(tmp_path, "mnist-4x800", [make_row(1, "ADAM")])  # a task without π counts for nothing
    fill_race(tmp_path, "grids", [make_row(0, "ADAM lr=0.001"), make_row(1, "ADAM lr=0.001")])
    # Ten tasks: one epoch and three tasks of the second, two unrolls of each.
    visits = [(epoch, group) for epoch in range(2) for group in range(10) if group < 3 or not epoch]
    write_log(
        tmp_path / "trainings" / "cifar-100",
        epoch=[e for e, _ in visits for _ in range(2)],
        group=[g for _, g in visits for _ in range(2)],
    )
    some = run()
    assert some["Table 1, Fig. 5, 8: MNIST (4,800), tasks"] == ("100", "3")
    assert some["tuning grids, runs on training tasks"] == ("210", "2")
    assert some["π_C with 100 images a task, epochs"] == ("10", "1.3")
    assert len(some.items() - nothing.items()) == 3
