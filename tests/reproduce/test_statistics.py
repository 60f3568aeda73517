"""Medians, intervals, wins and the index, against plain loops."""

import itertools
import math
import random
import statistics as plain

import numpy as np
import pytest
import scipy.stats

from jax_lbfgs_pi.evaluation import Target
from jax_lbfgs_pi.reproduce.claims import lead
from jax_lbfgs_pi.reproduce.records import Records
from jax_lbfgs_pi.reproduce.statistics import (
    advantages,
    bootstrap,
    mean_of,
    median,
    median_cost,
    reached,
    wins,
)
from tests.hand_made import PI, make_row, make_run, records_of

INF = math.inf
G3, G5 = Target("grad_norm", 1e-3), Target("grad_norm", 1e-5)


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


@pytest.mark.parametrize("num", [2, 5])
def test_intervals_over_trainings_are_students(num):
    values = np.random.default_rng(num).normal(50.0, 10.0, size=num)
    low, high = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(mean_of(list(values)), (values.mean(), low, high, num), rtol=1e-12)
    assert mean_of([3.0]) == (3.0, -INF, INF, 1)


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
