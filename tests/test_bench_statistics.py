import json
import math
import statistics

import numpy as np
import pytest
from rich.console import Console

from jax_lbfgs_pi.bench import (
    Costs,
    ProblemRuns,
    Record,
    bad_ends,
    bench_competitors,
    better_of,
    costs_to,
    data_profile,
    duel,
    figures,
    kind_mean,
    performance_profile,
    report,
    solved_area,
    solved_at_budgets,
)
from jax_lbfgs_pi.evaluation import save_figure, tables
from jax_lbfgs_pi.stopping import Status

INF = math.inf


def record(values, evals=None, status=Status.MAX_ITERS):
    values = np.array(values, float)
    evals = np.arange(1, len(values) + 1) if evals is None else np.array(evals)
    return Record(evals, values, np.ones(len(values)), int(status), 0.5, 2.0)


def runs(records, problem="p", kind="k", n=4, minimum=None):
    return ProblemRuns(problem, kind, n, minimum, records)


def made(evals, kinds, names=("A", "B", "C"), num_variables=None):
    """Costs made by hand."""
    problems = tuple(f"p{i}" for i in range(len(kinds)))
    variables = num_variables or (9,) * len(kinds)
    return Costs(problems, tuple(kinds), variables, names, np.array(evals, float))


# Kind x has three problems, y one, z two.
EVALS = [[10, 20, INF], [30, 30, 5], [INF, INF, 200], [7, 80, 81], [INF, INF, INF], [60, INF, 59]]
KINDS = ["x", "x", "x", "y", "z", "z"]
COSTS = made(EVALS, KINDS)


def by_kinds(per_problem):
    """The mean over kinds of the means over their problems, in plain loops."""
    groups = {}
    for kind, value in zip(KINDS, per_problem, strict=True):
        groups.setdefault(kind, []).append(value)
    return statistics.mean(statistics.mean(map(float, group)) for group in groups.values())


# --- evaluations to the target --------------------------------------------------------------------


def test_costs_are_evaluations_until_the_gap_is_a_share_of_the_first():
    """From f₀ = 11 to f_best = 1 with τ = 0.1: f <= 2."""
    results = [runs({
        "A": record([11, 5, 2, 1.5], evals=[1, 3, 4, 9]),
        "B": record([11, 2.001, 9, 1], evals=[1, 2, 3, 8]),
        "C": record([11, np.nan, -np.inf, 3]),
    })]  # fmt: skip
    np.testing.assert_array_equal(costs_to(results, 0.1).evals, [[4, 8, INF]])
    np.testing.assert_array_equal(costs_to(results, 0.101).evals, [[4, 2, INF]])
    np.testing.assert_array_equal(costs_to(results, 1e-6).evals, [[INF, 8, INF]])


def test_a_target_stays_met_when_f_rises_again():
    results = [runs({"A": record([8, 1, 8, 0]), "B": record([8, 7, 6, 5])})]
    np.testing.assert_array_equal(costs_to(results, 0.2).evals, [[2, INF]])


def test_published_minima_and_references_lower_the_target():
    records = {"A": record([10, 1]), "B": record([10, 2])}
    assert costs_to([runs(records)]).evals.tolist() == [[2, INF]]
    assert costs_to([runs(records, minimum=0.0)]).evals.tolist() == [[INF, INF]]
    assert costs_to([runs(records, minimum=0.0)], 0.2).evals.tolist() == [[2, 2]]
    assert costs_to([runs(records, minimum=5.0)]).evals.tolist() == [[2, INF]]
    reference = {"p": -10.0, "q": -99.0}
    assert costs_to([runs(records)], 0.55, reference=reference).evals.tolist() == [[2, INF]]


def test_who_starts_at_the_minimum_has_solved():
    results = [runs({"A": record([1, 5]), "B": record([1])}, minimum=1.0)]
    assert costs_to(results).evals.tolist() == [[1, 1]]


def test_costs_carry_what_is_known_of_the_problems():
    results = [
        runs({"A": record([1, 0])}, "p", "k", 3),
        runs({"A": record([1, 0])}, "q", "l", 5),
    ]
    costs = costs_to(results)
    assert (costs.problems, costs.kinds, costs.num_variables) == (("p", "q"), ("k", "l"), (3, 5))
    assert costs.only("l").problems == ("q",)
    with pytest.raises(ValueError, match="'B' did not run: choose among A"):
        costs.of("B")
    with pytest.raises(ValueError, match="No problem was run"):
        costs_to([])
    with pytest.raises(ValueError, match="different competitors"):
        costs_to([*results, runs({"B": record([1, 0])})])


# --- means over kinds -----------------------------------------------------------------------------


def test_kinds_weigh_the_same():
    np.testing.assert_allclose(COSTS.weights, [1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 6, 1 / 6])
    values = np.array([1.0, 0.0, 0.5, 0.25, 2.0, -1.0])
    mean = kind_mean(values, COSTS)
    assert mean.value == pytest.approx(by_kinds(values)) == pytest.approx(COSTS.weights @ values)
    assert mean.low <= mean.value <= mean.high


def test_intervals_are_of_resampled_kinds():
    """Of two kinds with means 0 and 1, a resample's mean is 0, 1/2, 1 with 1/4, 1/2, 1/4."""
    costs = made([[1, 1, 1]] * 7, ["a"] * 6 + ["b"])
    assert kind_mean(np.array([0.0] * 6 + [1.0]), costs) == (0.5, 0.0, 1.0)
    constant = kind_mean(np.array([0.0, 1.0] * 3 + [0.5]), costs)
    assert constant == (0.5, 0.5, 0.5)  # within a kind nothing is drawn


def test_intervals_shrink_with_the_number_of_kinds_as_theory_says():
    rng = np.random.default_rng(3)
    values = rng.normal(size=400)
    costs = made([[1, 1, 1]] * 400, [f"k{i}" for i in range(400)])
    mean = kind_mean(values, costs)
    half_width = 1.96 * values.std() / math.sqrt(400)
    assert mean.high - mean.low == pytest.approx(2 * half_width, rel=0.1)


def test_shares_solved():
    shares = solved_at_budgets(COSTS, (7, 59, 300))
    for name, column in zip("ABC", zip(*EVALS, strict=True), strict=True):
        for share, budget in zip(shares[name], (7, 59, 300), strict=True):
            assert share.value == pytest.approx(by_kinds([c <= budget for c in column]))


def test_area_is_that_under_the_data_profile():
    """By the trapezoidal rule on a fine grid of log evaluations."""
    grid = np.linspace(0.0, math.log(300.0), 200_001)
    for name, column in zip("ABC", zip(*EVALS, strict=True), strict=True):
        curve = [np.exp(grid) >= cost for cost in column]
        areas = [float(np.mean(solved)) for solved in curve]
        assert solved_area(COSTS, 300)[name].value == pytest.approx(by_kinds(areas), abs=1e-4)


# --- duels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [("A", "B"), ("A", "C"), ("C", "A"), ("B", "B")])
def test_duels_by_plain_loops(a, b):
    mine, theirs = ["ABC".index(name) for name in (a, b)]
    pairs = [(row[mine], row[theirs]) for row in EVALS]
    found = duel(COSTS, a, b)
    points = [1.0 if x < y else 0.5 if x == y else 0.0 for x, y in pairs]
    assert found.score.value == pytest.approx(by_kinds(points))
    assert found.wins == pytest.approx(by_kinds([x < y for x, y in pairs]))
    assert found.losses == pytest.approx(by_kinds([x > y for x, y in pairs]))
    assert found.ties == pytest.approx(by_kinds([x == y < INF for x, y in pairs]))
    assert found.neither == pytest.approx(by_kinds([x == y == INF for x, y in pairs]))
    assert found.wins + found.losses + found.ties + found.neither == pytest.approx(1.0)
    assert found.score.value == pytest.approx(found.wins + (found.ties + found.neither) / 2)
    for kind in "xyz":
        of_kind = [p for p, k in zip(points, KINDS, strict=True) if k == kind]
        assert found.by_kind[kind] == pytest.approx(statistics.mean(of_kind))


def test_ratios_of_evaluations():
    """Kind x: 10/20, 30/30; neither solves p2. Kind z: 60 against never, then never at all."""
    assert duel(COSTS, "A", "B").ratio_by_kind == {"x": 0.5, "y": 7 / 80, "z": 0.0}
    assert duel(COSTS, "B", "A").ratio_by_kind == {"x": 1.0, "y": 80 / 7, "z": INF}
    alone = made([[INF, INF, 3]], ["x"])
    assert math.isnan(duel(alone, "A", "B").ratio_by_kind["x"])


def test_the_better_of_two_and_the_virtual_best():
    both = better_of(COSTS, ["A", "C"])
    assert both.names == ("A", "B", "C", "best of A, C")
    least = [min(a, c) for a, _, c in EVALS]
    np.testing.assert_array_equal(both.of("best of A, C"), least)
    np.testing.assert_array_equal(both.of("B"), COSTS.of("B"))
    best = better_of(COSTS, COSTS.names, "best").of("best")
    np.testing.assert_array_equal(best, [min(row) for row in EVALS])


# --- profiles -------------------------------------------------------------------------------------


def test_performance_profile_by_plain_loops():
    factors = np.array([1.0, 1.5, 2.0, 6.0, 1e9])
    shares = performance_profile(COSTS, factors)
    for c in range(3):
        for f, factor in enumerate(factors):
            solved = [row[c] < INF and row[c] <= factor * min(row) for row in EVALS]
            assert shares[c, f] == pytest.approx(by_kinds(solved))


@pytest.mark.parametrize("per_variable", [False, True])
def test_data_profile_by_plain_loops(per_variable):
    variables = (1, 2, 3, 4, 5, 6)
    costs, budgets = made(EVALS, KINDS, num_variables=variables), np.array([1.0, 5, 7, 30, 300])
    shares = data_profile(costs, budgets, per_variable=per_variable)
    units = [n + 1 if per_variable else 1 for n in variables]
    for c in range(3):
        for b, budget in enumerate(budgets):
            solved = [row[c] / unit <= budget for row, unit in zip(EVALS, units, strict=True)]
            assert shares[c, b] == pytest.approx(by_kinds(solved))


# --- bad ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "status", "non_finite", "above"),
    [
        ([5, 4], Status.MAX_ITERS, 0, 0),
        ([5, 4, np.nan], Status.NON_FINITE, 1, 0),
        ([5, 4, np.nan], Status.MAX_ITERS, 0, 0),  # a trial that was rejected
        ([5, 3, *[6.0] * 10], Status.MAX_ITERS, 0, 1),
        ([5, 3, *[6.0] * 9], Status.MAX_ITERS, 0, 0),
        ([5, 3, *[np.inf] * 10], Status.MAX_ITERS, 1, 0),
    ],
)
def test_bad_ends(values, status, non_finite, above):
    good = runs({"A": record([5, 4])})
    ends = bad_ends([good, runs({"A": record(values, status=status)})], "A")
    assert (ends.non_finite, ends.above_start) == (non_finite, above)


# --- the report and the figures -------------------------------------------------------------------


def full_results(num_kinds=3):
    """All competitors and a policy with a long name; costs as wide as they get."""
    names = [*bench_competitors(), "π a-policy-with-a-very-long-name"]
    rng = np.random.default_rng(0)
    results = []
    for i in range(2 * num_kinds):
        records = {}
        for name in names:
            steps = rng.uniform(0.0, 0.3)
            values = np.exp(-steps * np.arange(300))
            values[-1] = values[-1] if steps > 0.03 else np.nan
            status = Status.MAX_ITERS if steps > 0.03 else Status.NON_FINITE
            records[name] = record(values, status=status)
        kind = f"a-kind-of-a-long-name-{i // 2}"
        results.append(runs(records, f"p{i}", kind, minimum=0.0))
    return results


def test_tables_fit_a_terminal_of_80_columns_uncut():
    results = full_results()
    costs = costs_to(results)
    rows = report.tables(results, costs, "L-BFGS-π")
    with open("/dev/null", "w") as nowhere:
        screen = Console(width=80, record=True, file=nowhere)
        for table in map(tables.for_terminal, rows):
            screen.print(table)
        text = screen.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for name in [*bench_competitors(), report.VIRTUAL_BEST]:
        assert name in text
    cut = ("π a-policy-with-a-v…", "a-kind-of-a-long-…")
    assert text.count("…") == sum(map(text.count, cut))
    markdown = "\n".join(map(tables.markdown, rows))
    for _, header, body in rows:
        assert {len(row) for row in body} == {len(header)}
        for row in body:
            assert "| " + " | ".join(row) + " |" in markdown
    assert "nan" not in text + markdown


def test_json_is_strict_and_says_what_the_statistics_say():
    results = full_results()
    costs = costs_to(results)
    found = report.as_json(results, costs, "L-BFGS-π")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found["competitors"]) == list(costs.names)
    shares = solved_at_budgets(costs)
    for name, entry in found["competitors"].items():
        assert list(entry["solved"]) == ["50", "100", "300"]
        for share, shown in zip(shares[name], entry["solved"].values(), strict=True):
            assert shown == share._asdict()
    for shown in found["duels"]:
        assert shown["score"] == duel(costs, "L-BFGS-π", shown["against"]).score._asdict()
    evals = found["problems"]["p1"]["evals"].values()
    expected = [e if math.isfinite(e) else None for e in costs.evals[1]]
    assert list(evals) == expected


def test_tables_of_a_single_competitor_and_a_tiny_budget():
    results = [runs({"A": record([1.0])})]
    costs = costs_to(results)
    for table in report.tables(results, costs, "A", budget=1):
        assert tables.for_terminal(table).row_count == len(table.rows)
        assert tables.markdown(table).count("\n") == len(table.rows) + 4
    assert report.as_json(results, costs, "A", budget=1)["duels"] == []


def test_figures(tmp_path):
    costs = costs_to(full_results(num_kinds=5))
    favourite = "L-BFGS-π"
    for i, figure in enumerate([
        figures.profile_performance(costs, favourite),
        figures.profile_data(costs, favourite),
        figures.profile_data(costs, favourite, per_variable=True),
    ]):  # fmt: skip
        (axes,) = figure.axes
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert set(lines) == set(costs.names)
        others = [line for name, line in lines.items() if name != favourite]
        assert lines[favourite].get_linewidth() > max(line.get_linewidth() for line in others)
        looks = {(str(line._dash_pattern), line.get_marker()) for line in lines.values()}
        assert len(looks) == len(lines)  # told apart without colour
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        (legend,) = figure.legends
        bold = [text.get_text() for text in legend.get_texts() if text.get_weight() == "bold"]
        assert bold == [favourite]
        save_figure(figure, tmp_path / f"{i}.png")
    figure = figures.profiles_by_kind(costs, favourite)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 5
    assert all(len(axes.get_lines()) == 5 for axes in shown)
    save_figure(figure, tmp_path / "kinds.png")
