import dataclasses
import itertools
import json
import math
import random
import statistics as plain

import numpy as np
import pytest

from jax_lbfgs_pi.evaluation import Target
from jax_lbfgs_pi.reproduce import claims, overview, races, statistics, tables
from jax_lbfgs_pi.reproduce.artefacts import ARTEFACTS
from jax_lbfgs_pi.reproduce.claims import CLAIMS, claims_table, lead, verdict
from jax_lbfgs_pi.reproduce.grids import GRIDS
from jax_lbfgs_pi.reproduce.records import Records, RunFolder
from jax_lbfgs_pi.reproduce.statistics import (
    Estimate,
    advantages,
    bootstrap,
    median,
    median_cost,
    reached,
    wins,
)
from jax_lbfgs_pi.reproduce.tables import interval, markdown, number
from jax_lbfgs_pi.training.log import OuterRecord
from tests.hand_made import PAPERS, PI, make_row, make_run

INF = math.inf
G3, G5 = Target("grad_norm", 1e-3), Target("grad_norm", 1e-5)


def records_of(costs, target="‖g‖<1e-3"):
    """Records of `{optimizer: evaluations to the target, task by task}`."""
    return Records(
        make_row(task, name, evals={target: cost}, times={target: 0.1 * cost})
        for name, column in costs.items()
        for task, cost in enumerate(column)
        if cost is not None
    )


def random_costs(seed, num=60):
    """Costs with ties and with targets that are not met, in both columns."""
    rng = random.Random(seed)
    return {
        name: [rng.choice([INF, *map(float, range(1, 7))]) for _ in range(num)] for name in "AB"
    }


# --- medians and intervals ------------------------------------------------------------------------


@pytest.mark.parametrize("num", [1, 2, 3, 4, 7, 8])
def test_the_median_is_an_order_statistic(num):
    rng = np.random.default_rng(num)
    table = rng.permutation([*np.arange(6 * num - 2 * num), *[INF] * (2 * num)]).reshape(6, num)
    expected = [plain.median_low(row) for row in table.tolist()]
    np.testing.assert_array_equal(median(table, axis=1), expected)
    np.testing.assert_array_equal(median(table.T, axis=0), expected)
    for row, value in zip(table, expected, strict=True):
        np.testing.assert_array_equal(median(row), value)


def test_infinite_costs_leave_no_nan():
    np.testing.assert_array_equal(median(np.array([INF, 1.0])), 1.0)
    np.testing.assert_array_equal(median(np.array([INF, 1.0, INF])), INF)
    np.testing.assert_array_equal(median(np.array([-INF, INF, INF, -INF])), -INF)


def plain_bootstrap(values, statistic, resamples=20_000):
    """The percentile bootstrap by plain loops, on other random numbers."""
    rng = random.Random(5)
    drawn = sorted(statistic(rng.choices(values, k=len(values))) for _ in range(resamples))
    return drawn[int(0.025 * resamples)], drawn[int(0.975 * resamples) - 1]


def test_intervals_of_a_mean_are_those_of_an_independent_bootstrap():
    values = np.random.default_rng(0).lognormal(size=40)
    estimate = bootstrap(values, np.mean)
    low, high = plain_bootstrap(values.tolist(), lambda v: sum(v) / len(v))
    assert estimate.value == pytest.approx(sum(values) / 40)
    assert estimate.num_tasks == 40
    # A quantile of 2,000 resamples has a standard error of some 3 % of the interval's width.
    for ours, theirs in ((estimate.low, low), (estimate.high, high)):
        assert abs(ours - theirs) < 0.1 * (high - low)
    # And the normal approximation's, for a sample that is not extreme.
    half = 1.96 * np.std(values) / math.sqrt(40)
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.15)


def test_intervals_of_a_median_are_those_of_an_independent_bootstrap():
    """Order statistics: the ends of the interval are values, or a neighbour of the true end."""
    values = np.sort(np.random.default_rng(1).lognormal(size=41))
    values[30:] = INF
    estimate = bootstrap(np.random.default_rng(2).permutation(values), median)
    low, high = plain_bootstrap(values.tolist(), plain.median_low)
    assert estimate.value == values[20]
    places = values.tolist()
    for ours, theirs in ((estimate.low, low), (estimate.high, high)):
        assert abs(places.index(ours) - places.index(theirs)) <= 1
    assert estimate.low < estimate.value < estimate.high < INF


def test_the_interval_holds_95_of_100_resamples():
    """On the resamples that the documented seed gives, sorted by hand."""
    values = np.random.default_rng(3).normal(size=17)
    draws = np.random.default_rng(0).integers(17, size=(2000, 17))
    drawn = sorted(sum(values[i] for i in row) / 17 for row in draws)
    estimate = bootstrap(values, np.mean)
    assert min(abs(estimate.low - drawn[i]) for i in (49, 50)) < 1e-12
    assert min(abs(estimate.high - drawn[i]) for i in (1949, 1950)) < 1e-12


def test_intervals_are_the_same_every_time():
    values = np.random.default_rng(4).normal(size=30)
    first = bootstrap(values, np.mean)
    np.random.default_rng(9).normal(size=100)
    assert bootstrap(values, np.mean) == first
    assert bootstrap(values + 1.0, np.mean).low == pytest.approx(first.low + 1.0)


def test_no_task_has_no_number():
    for statistic in (np.mean, median):
        estimate = bootstrap(np.array([]), statistic)
        assert estimate.num_tasks == 0
        assert all(math.isnan(x) for x in estimate[:3])


@pytest.mark.parametrize("value", [3.0, INF, -INF, 0.0])
def test_one_task_is_its_own_interval(value):
    for statistic in (np.mean, median):
        assert bootstrap(np.array([value]), statistic) == (value, value, value, 1)


@pytest.mark.parametrize("value", [INF, -INF])
def test_all_infinite(value):
    assert bootstrap(np.full(20, value), median) == (value, value, value, 20)


def test_a_median_between_infinities():
    """Half of the tasks miss the target: the interval reaches infinity, and nothing is NaN."""
    estimate = bootstrap(np.array([1.0, 2.0, 3.0, 4.0, INF, INF, INF, INF]), median)
    assert estimate == (4.0, pytest.approx(2.0, abs=1.0), INF, 8)
    signed = bootstrap(np.array([-INF] * 10 + [INF] * 10), median)
    assert signed == (-INF, -INF, INF, 20)


# --- costs, wins and ties -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_wins_and_ties_by_plain_loops(seed):
    costs = random_costs(seed)
    records = records_of(costs)
    won = tied = lost = 0
    for a, b in zip(costs["A"], costs["B"], strict=True):
        won, tied, lost = won + (a < b), tied + (a == b), lost + (b < a)
    assert min(won, tied, lost) > 0
    for cost in ("num_evals", "seconds"):
        w, t = wins(records, "A", "B", G3, cost)
        assert w.value == pytest.approx(100 * won / 60)
        assert t.value == pytest.approx(100 * tied / 60)
        assert wins(records, "B", "A", G3, cost)[0].value == pytest.approx(100 * lost / 60)
        assert w.low < w.value < w.high
        assert (w.num_tasks, t.num_tasks) == (60, 60)
        renamed = records_of({PI: costs["A"], "B": costs["B"]})
        assert lead(renamed, "B", G3, cost).value == pytest.approx(100 * (won - lost) / 60)
    # The interval is that of a rate: 1.96 standard errors to either side, roughly.
    p = won / 60
    assert w.high - w.low == pytest.approx(2 * 196 * math.sqrt(p * (1 - p) / 60), rel=0.25)


def test_only_tasks_that_both_have_run_count():
    records = records_of({"A": [1.0, 9.0, 2.0, None], "B": [2.0, None, 2.0, 1.0]})
    w, t = wins(records, "A", "B", G3, "num_evals")
    assert (w.value, t.value, w.num_tasks) == (50.0, 50.0, 2)
    assert median_cost(records, "A", G3, "num_evals")[::3] == (2.0, 3)  # over all of its own
    assert wins(records, "A", "C", G3, "num_evals")[0].num_tasks == 0


def test_neither_is_a_tie():
    records = records_of({"A": [INF] * 3, "B": [INF] * 3})
    w, t = wins(records, "A", "B", G3, "num_evals")
    assert (w.value, t.value) == (0.0, 100.0)


@pytest.mark.parametrize("seed", range(3))
def test_median_costs_and_shares_by_plain_loops(seed):
    costs = random_costs(seed, num=20)
    records = records_of(costs)
    for name, column in costs.items():
        met = sum(1 for cost in column if cost < INF)
        assert 0 < met < 20
        assert reached(records, name, G3).value == pytest.approx(100 * met / 20)
        assert median_cost(records, name, G3, "num_evals").value == plain.median_low(column)
        assert median_cost(records, name, G3, "seconds").value == pytest.approx(
            0.1 * plain.median_low(column)
        )
        assert reached(records, name, G5).value == 0.0
        assert median_cost(records, name, G5, "num_evals") == (INF, INF, INF, 20)


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ([1.0] * 10, [2.0] * 10, (100.0, 100.0, 100.0, 10)),
        ([2.0] * 10, [1.0] * 10, (-100.0, -100.0, -100.0, 10)),
        ([1.0] * 10, [1.0] * 10, (0.0, 0.0, 0.0, 10)),
        ([INF] * 10, [INF] * 10, (0.0, 0.0, 0.0, 10)),
        ([1.0] * 10, [INF] * 10, (100.0, 100.0, 100.0, 10)),
        ([1.0, 2.0, 1.0, INF], [2.0, 1.0, 5.0, INF], (25.0, -75.0, 100.0, 4)),
    ],
)
def test_the_lead_is_wins_less_losses(mine, theirs, expected):
    estimate = lead(records_of({PI: mine, "B": theirs}), "B", G3, "num_evals")
    assert (estimate.value, estimate.num_tasks) == (expected[0], expected[3])
    assert estimate.low == pytest.approx(expected[1], abs=25.0 if expected[3] == 4 else 0.0)
    assert estimate.high == pytest.approx(expected[2], abs=25.0 if expected[3] == 4 else 0.0)


# --- the index I_a --------------------------------------------------------------------------------


def plain_advantage(pi, a):
    """I_a of paper eq. 8; values that are not finite count as infinity, tiny ones as 1e-300."""
    pi, a = (max(v, 1e-300) if math.isfinite(v) else INF for v in (pi, a))
    if pi == a:
        return 0.0
    if INF in (pi, a):
        return INF if a == INF else -INF
    return math.log(a) - math.log(pi)


VALUES = [1.0, math.e, 1e-5, 4.0, 0.0, 1e-320, 1e300, INF, math.nan, -INF]
PAIRS = list(itertools.product(VALUES, VALUES))


@pytest.mark.parametrize("value", ["min_value", "final_value"])
def test_advantages_by_plain_loops(value):
    """Of finite numbers, and of runs that ended in overflow: in NaN, or in an infinity."""
    pairs = [p for p in PAIRS if value == "final_value" or not any(x != x or x == -INF for x in p)]
    records = Records(
        make_row(task, name, **{value: pair[i]})
        for task, pair in enumerate(pairs)
        for i, name in enumerate("AB")
    )
    found = advantages(records, "A", "B", value)
    expected = [plain_advantage(*pair) for pair in pairs]
    wrong = [(pair, ours, theirs) for pair, ours, theirs in zip(pairs, found, expected, strict=True)
             if ours != pytest.approx(theirs, rel=1e-13, abs=1e-13)]  # fmt: skip
    assert wrong == []


def test_advantages_of_finite_values():
    columns = {"A": [1.0, math.e, 4.0, 3.0, 1e-5], "B": [math.e, 1.0, 2.0, 3.0, 1e-3]}
    records = Records(
        make_row(task, name, min_value=x, final_value=2.0)
        for name, column in columns.items()
        for task, x in enumerate(column)
    )
    np.testing.assert_allclose(
        advantages(records, "A", "B"),
        [1.0, -1.0, -math.log(2.0), 0.0, math.log(100.0)],
        rtol=1e-12,
    )
    np.testing.assert_array_equal(advantages(records, "A", "B", "final_value"), np.zeros(5))


def test_advantages_agree_with_those_of_a_race():
    """`evaluation.statistics.advantage` of the runs is `advantages` of their rows."""
    from jax_lbfgs_pi.evaluation import advantage
    from jax_lbfgs_pi.reproduce.records import row_of

    ends = [[2.0, 1e-4], [2.0, INF], [INF, math.nan], [0.0], [1.0, math.nan]]
    runs = list(itertools.product(map(make_run, ends), map(make_run, ends)))
    results = [{"A": a, "B": b} for a, b in runs]
    rows = [
        row_of(pair[name], task, name, plateau_value=2.2)
        for task, pair in enumerate(results)
        for name in "AB"
    ]
    np.testing.assert_allclose(advantages(Records(rows), "A", "B"), advantage(results, "A", "B"))


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
    table = tables.Table("A title", ["", "x", "y"], [["a", "1", "2"], ["b", "∞", "–"]])
    assert markdown(table) == (
        "**A title**\n\n|  | x | y |\n| --- | ---: | ---: |\n| a | 1 | 2 |\n| b | ∞ | – |\n"
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


# --- claims ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "positive"),
    [
        (1.0, 3.0, "yes"),
        (-3.0, -1.0, "no"),
        (-1.0, 2.0, "open"),
        (0.0, 2.0, "open"),
        (-2.0, 0.0, "open"),
        (0.0, 0.0, "open"),
        (1.0, INF, "yes"),
        (-INF, INF, "open"),
        (-INF, -1.0, "no"),
    ],
)
def test_verdicts_of_both_signs(low, high, positive):
    estimate = Estimate(low, low, high, 9)
    assert verdict(estimate, 1) == positive
    assert verdict(estimate, -1) == {"yes": "no", "no": "yes", "open": "open"}[positive]


@pytest.mark.parametrize("num", [1, 5, 6])
def test_a_handful_of_tasks_decides_nothing(tmp_path, num):
    """Five heads in five tosses are no evidence at 95 %, six are: 2 / 2⁵ > 0.05 > 2 / 2⁶."""
    assert (2 * 0.5**num < 0.05) == (num == 6)
    for value in (-1.0, 1.0):
        decided = verdict(Estimate(value, value, value, num), 1) != "open"
        assert decided == (num == 6)
    rows = [make_row(t, PI, evals={"‖g‖<1e-5": 5.0}) for t in range(num)]
    for against, cost in (("L-BFGS-B", 5.0), ("L-BFGS-BTLS", 6.0)):
        rows += [make_row(t, against, evals={"‖g‖<1e-5": cost}) for t in range(num)]
    fill(tmp_path, "quadratic", rows)
    same, other = (find(tmp_path, "quadratic tasks", f"from {x} at")[1].holds
                   for x in ("L-BFGS-B", "L-BFGS-BTLS"))  # fmt: skip
    assert (same, other) == (("yes", "no") if num == 6 else ("open", "open"))
    found = find(tmp_path, "quadratic tasks", "from L-BFGS-B at")[1]
    assert found.ours.endswith(", 1 task" if num == 1 else f", {num} tasks")


def test_nothing_is_claimed_of_an_empty_folder(tmp_path):
    assert len(CLAIMS) > 30
    for claim in CLAIMS:
        assert claim.find(tmp_path) is None
    table = claims_table(tmp_path)
    assert len(table.rows) == len(CLAIMS)
    for row, claim in zip(table.rows, CLAIMS, strict=True):
        assert row == [
            claim.text, claim.papers, "–", "not run", f"`lbfgs-pi reproduce {claim.artefact}`"
        ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_every_claim_is_of_an_artefact_and_no_two_are_the_same():
    assert {claim.artefact for claim in CLAIMS} <= set(ARTEFACTS)
    texts = [claim.text for claim in CLAIMS]
    assert len(set(texts)) == len(texts)


def fill(out, race, rows):
    folder = RunFolder(out / "records" / race)
    for row in rows:
        folder.save(make_run([1.0]), row, curve=False)


def find(out, *parts):
    (claim,) = [c for c in CLAIMS if all(part in c.text for part in parts)]
    return claim, claim.find(out)


def test_claims_of_table_1(tmp_path):
    """π is first by evaluations on eight of ten tasks, and by seconds on two; it never ties."""
    target = {"‖g‖<1e-5": 5.0}
    rows = [make_row(t, PI, evals=target, times=target) for t in range(100)]
    for t in range(100):
        evals, times = (6.0 if t % 10 < wins else 4.0 for wins in (8, 2))
        rows.append(make_row(t, "L-BFGS-B", evals={"‖g‖<1e-5": evals}, times={"‖g‖<1e-5": times}))
    fill(tmp_path, "mnist-1x20", rows)
    claim, found = find(tmp_path, "(1,20): first at ‖g‖<1e-5 more", "L-BFGS-B,", "evaluations")
    assert found is not None
    assert found.holds == "yes"
    assert found.ours.startswith("+60 [+4")
    assert found.ours.endswith("], 100 tasks")
    assert claim.papers == "–"  # the paper does not count evaluations
    claim, found = find(tmp_path, "(1,20): first at ‖g‖<1e-5 more", "L-BFGS-B,", "seconds")
    assert found is not None
    assert found.holds == "no"
    assert found.ours.startswith("-60 [-7")
    assert claim.papers == "+13.1"  # W - L = 54.9 - (100 - 54.9 - 3.3)
    assert find(tmp_path, "(1,20): first at ‖g‖<1e-5 more", "BTLS", "seconds")[1] is None


@pytest.mark.parametrize(
    ("parts", "papers"),
    [
        (("(1,20)", "‖g‖<1e-5 more", "than ADAM"), 2 * 90.9 + 9.1 - 100),
        (("(1,20)", "‖g‖<1e-5 more", "than L-BFGS-BTLS"), 59.0 - (100 - 59.0 - 2.5)),
        (("(1,20)", "‖g‖<1e-3 less", "than RMSProp"), 5.5 - 94.5),
        (("(1,20)", "‖g‖<1e-3 less", "than ADAM"), -100.0),
        (("(2,400)", "‖g‖<1e-7 less", "than L-BFGS-BTLS"), 1.2 - 98.8),
        (("(4,800)", "‖g‖<1e-7 less", "than L-BFGS-B,"), 7.6 - (100 - 7.6 - 3.0)),
    ],
)
def test_the_papers_leads(tmp_path, parts, papers):
    """Where the paper's numbers are on the side that the claim says."""
    claim, _ = find(tmp_path, *parts, "in seconds")
    # Three digits are shown.
    assert float(claim.papers) == pytest.approx(papers, rel=5e-3)
    assert (papers > 0) == ("more" in claim.text)
    assert claim.artefact == "table1"


@pytest.mark.parametrize(("factor", "holds"), [(math.e, "yes"), (1 / math.e, "no"), (1.0, "open")])
@pytest.mark.parametrize(
    ("value", "race", "text"),
    [
        ("min_value", "mnist-1x20", "least f of L-BFGS-π lower than of RMSProp"),
        ("final_value", "mnist-1x20", "final f of L-BFGS-π lower than of ADAM"),
        ("min_value", "mnist-2x400", "least f of L-BFGS-π lower than of ADAM"),
        ("min_value", "mnist-4x800", "least f of L-BFGS-π lower than of RMSProp"),
    ],
)
def test_claims_of_the_index(tmp_path, factor, holds, value, race, text):
    rows = [make_row(t, PI, **{value: 0.5}) for t in range(20)]
    rows += [make_row(t, text.split()[-1], **{value: 0.5 * factor}) for t in range(20)]
    fill(tmp_path, race, rows)
    claim, found = find(tmp_path, f"{race}: {text}")
    assert found is not None
    assert found.holds == holds
    shown = {"yes": "+1 [+1, +1]", "no": "-1 [-1, -1]", "open": "0 [0, 0]"}[holds]
    assert found.ours == f"{shown}, 20 tasks"
    assert claim.papers == "above 0"
    assert claim.artefact == ("fig8" if value == "final_value" else "fig5")


@pytest.mark.parametrize(
    ("race", "text", "figure"),
    [("cifar10", "cifar10: ", "fig6"), ("cifar10-100", "cifar10 with 100 images", "fig6-small")],
)
@pytest.mark.parametrize(("factor", "holds"), [(0.5, "yes"), (2.0, "no"), (1.0, "open")])
def test_the_claims_of_the_warm_start(tmp_path, race, text, figure, factor, holds):
    """Yes where π_C reaches lower f than π."""
    rows = [make_row(t, PI, min_value=1.0) for t in range(9)]
    rows += [make_row(t, "L-BFGS-π_C", min_value=factor) for t in range(9)]
    fill(tmp_path, race, rows)
    claim, found = find(tmp_path, text, "π_C")
    assert found is not None
    assert found.holds == holds
    assert found.ours.startswith({"yes": "+0.693", "no": "-0.693", "open": "0 "}[holds])
    assert claim.artefact == figure


@pytest.mark.parametrize("race", ["quadratic", "logistic"])
@pytest.mark.parametrize("against", ["L-BFGS-B", "L-BFGS-BTLS"])
@pytest.mark.parametrize(
    ("theirs", "holds"),
    [([5.0] * 10, "yes"), ([4.0, 6.0] * 5, "yes"), ([6.0] * 10, "no"), ([4.0] * 10, "no")],
)
def test_the_claims_of_the_convex_tasks(tmp_path, race, against, theirs, holds):
    """Yes where there is no difference; a difference to either side refutes it."""
    rows = [make_row(t, PI, evals={"‖g‖<1e-5": 5.0}) for t in range(10)]
    rows += [make_row(t, against, evals={"‖g‖<1e-5": x}) for t, x in enumerate(theirs)]
    fill(tmp_path, race, rows)
    claim, found = find(tmp_path, f"{race} tasks", f"no difference from {against} at")
    assert found is not None
    assert found.holds == holds
    assert (claim.papers, claim.artefact) == ("none", "convex")


def write_log(folder, **fields):
    """A log of one record for each entry of the fields' lists."""
    folder.mkdir(parents=True)
    num = len(next(iter(fields.values())))
    base = {f.name: 0.0 for f in dataclasses.fields(OuterRecord)} | {
        "tasks": [0], "epoch": 0, "group": 0, "unroll": 0, "num_skipped": 0, "tau_min": -3.0
    }  # fmt: skip
    lines = [json.dumps(base | {"step": i} | {k: v[i] for k, v in fields.items()})
             for i in range(num)]  # fmt: skip
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("last", "holds"), [(0.05, "yes"), (-0.05, "yes"), (0.0, "yes"), (0.7, "no"), (-0.7, "no")]
)
def test_the_claim_of_the_learned_limit(tmp_path, last, holds):
    """§4: "it converged to values that were very close to τ_M = 0", neither above nor below."""
    write_log(tmp_path / "trainings" / "limits", tau_max=[0.0, 0.3, -0.3, last])
    claim, found = find(tmp_path, "learned τ_M")
    assert found is not None
    assert found.holds == holds
    assert "after 4 steps" in found.ours
    assert f"{last:g}" in found.ours
    assert claim.artefact == "tau-limit"


@pytest.mark.parametrize(
    ("optimizer", "papers"),
    [
        ("ADAM", "ADAM lr=0.03"),
        ("RMSProp", "RMSProp lr=0.01"),
        ("L-BFGS-BTLS", "BTLS c1=0.25 c2=0.5"),
    ],
)
def test_the_claims_of_the_grids(tmp_path, optimizer, papers):
    """SPEC §6: what the paper chose of each grid."""
    names = [name for grid in GRIDS.values() for name in grid]
    assert papers in GRIDS[optimizer]
    for best, holds in ((papers, "yes"), (next(n for n in GRIDS[optimizer] if n != papers), "no")):
        out = tmp_path / holds
        rows = [make_row(0, n, evals={"‖g‖<1e-5": 9.0 if n == best else 99.0}) for n in names]
        fill(out, "grids", rows[:-1])
        assert find(out, f"best {optimizer} ")[1] is None  # not all of them have run
        fill(out, "grids", rows[-1:])
        claim, found = find(out, f"best {optimizer} ")
        assert found == (best, holds)
        assert claim.papers == papers


def test_no_claim_raises_on_records_that_are_there_in_part(tmp_path):
    """One task, one optimizer, nothing finite: whatever a race that was killed has left."""
    for race in races.RACES:
        fill(tmp_path, race, [make_row(0, PI, min_value=INF, final_value=math.nan)])
    fill(tmp_path, "grids", [make_row(0, "ADAM lr=0.001")])
    assert {row[3] for row in claims_table(tmp_path).rows} == {"not run"}
    names = ("ADAM", "RMSProp", "L-BFGS-B", "L-BFGS-BTLS", "L-BFGS-π_C")
    for race in races.RACES:
        fill(tmp_path, race, [make_row(0, n, min_value=INF, final_value=INF) for n in names])
    table = claims_table(tmp_path)
    assert {row[3] for row in table.rows} <= {"yes", "no", "open", "not run"}
    # Runs that ended in overflow on both sides say nothing.
    assert {row[3] for row in table.rows if "median I_a" in row[0]} == {"open"}
    assert "nan" not in markdown(table)


def test_a_claims_cell_shows_signs():
    assert claims._signed(5.0) == "+5"
    assert claims._signed(-5.0) == "-5"
    assert claims._signed(0.0) == "0"
    assert claims._signed(INF) == "+∞"
    assert statistics.LEVEL == 0.95  # what the tables' headers say


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


def test_how_much_has_been_run(tmp_path):
    def run():
        return {name: (planned, done) for name, planned, done in overview.coverage(tmp_path).rows}

    nothing = run()
    assert {done for name, (_, done) in nothing.items() if "seeds" not in name} == {"0"}
    assert nothing["Table 1, Fig. 3, 4, 5, 7, 8: MNIST (1,20), tasks"][0] == "1,000"
    assert set(overview.RACE_NAMES) == set(races.RACES)
    fill(tmp_path, "mnist-4x800", [make_row(t, PI) for t in (0, 4, 8)])
    fill(tmp_path, "mnist-4x800", [make_row(1, "ADAM")])  # a task without π counts for nothing
    fill(tmp_path, "grids", [make_row(0, "ADAM lr=0.001"), make_row(1, "ADAM lr=0.001")])
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
