"""What is said of a race: statistics, tables and figures."""

import itertools
import json
import math
import statistics

import numpy as np
import pytest
from rich.console import Console

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.evaluation import (
    Target,
    advantage,
    advantage_boxes,
    as_json,
    curves,
    first_hits,
    loss_curve,
    markdown,
    rich_tables,
    save_figure,
    summarize,
    wins_and_ties,
)
from jax_lbfgs_pi.evaluation.statistics import (
    first,
    first_hit,
    least_value,
    log_ratio,
    median,
    tied,
)
from tests.hand_made import make_run
from tests.marks import some_of
from tests.race.helpers import BASELINES, PI

GRAD = Target("grad_norm", 1e-3)


# --- statistics, on runs made by hand -------------------------------------------------------------


A_RUNS = [
    make_run([4.0, 2.0, 1.0], norms=[1, 1e-2, 1e-4]),
    make_run([4.0, math.e], norms=[1, 1e-5]),
    make_run([4.0, np.inf, np.nan], norms=[1, np.inf, np.nan], status=lp.Status.NON_FINITE),
    make_run([4.0, 3.0], norms=[1, 1e-3]),  # at the level is not below it
]
B_RUNS = [
    make_run([4.0, math.e], norms=[1, 1e-4], evals=[1, 5], seconds=[0.1, 0.2]),
    make_run([4.0, 1.0], norms=[1, 1e-4]),
    make_run([4.0, 2.0, 4.0], norms=[1, 1e-2, 1e-5], evals=[1, 3, 4]),
    make_run([4.0, 3.0], norms=[1, 0.5]),
]
HAND_MADE = [{"A": a, "B": b} for a, b in zip(A_RUNS, B_RUNS, strict=True)]


@pytest.mark.parametrize(
    ("cost", "a", "b"),
    [
        ("num_evals", [3, 2, math.inf, math.inf], [5, 2, 4, math.inf]),
        ("iterations", [2, 1, math.inf, math.inf], [1, 1, 2, math.inf]),
        ("seconds", [1.5, 1.0, math.inf, math.inf], [0.2, 1.0, 1.5, math.inf]),
    ],
)
def test_first_hits(cost, a, b):
    np.testing.assert_array_equal(first_hits(HAND_MADE, "A", GRAD, cost), a)
    np.testing.assert_array_equal(first_hits(HAND_MADE, "B", GRAD, cost), b)


def test_first_hit_on_f_is_the_first_even_if_f_rises_again():
    run = make_run([4.0, 1.0, 5.0, 0.5], evals=[1, 4, 5, 9])
    assert first_hit(run, Target("value", 2.0), "num_evals") == 4
    assert first_hit(run, Target("value", 1.0), "num_evals") == 9
    assert first_hit(run, Target("value", 0.5), "num_evals") == math.inf
    assert first_hit(run, Target("value", 10.0), "iterations") == 0


def test_wins_and_ties_count_neither_as_a_tie():
    """By evaluations A wins task 0, ties on 1 and (neither meets the target) on 3, loses 2."""
    assert wins_and_ties(HAND_MADE, "A", "B", GRAD, "num_evals") == (25.0, 50.0)
    assert wins_and_ties(HAND_MADE, "B", "A", GRAD, "num_evals") == (25.0, 50.0)
    assert wins_and_ties(HAND_MADE, "A", "B", GRAD, "seconds") == (0.0, 50.0)
    assert wins_and_ties(HAND_MADE, "A", "A", GRAD, "num_evals") == (0.0, 100.0)


def test_advantage_is_the_log_ratio_of_least_values():
    """Least values of A: 1, e, 4 (the rest is not finite), 3; of B: e, 1, 2, 3."""
    np.testing.assert_allclose(
        advantage(HAND_MADE, "A", "B"), [1.0, -1.0, math.log(0.5), 0.0], rtol=1e-14
    )
    np.testing.assert_allclose(
        advantage(HAND_MADE, "B", "A"), [-1.0, 1.0, math.log(2.0), 0.0], rtol=1e-14
    )


def test_advantage_at_zero_and_at_infinity():
    zero, lost, plain = make_run([1.0, 0.0]), make_run([np.nan, np.inf]), make_run([1.0])
    assert least_value(lost) == math.inf
    (favours_zero,) = advantage([{"A": zero, "B": plain}], "A", "B")
    assert 600 < favours_zero < math.inf
    (hopeless,) = advantage([{"A": plain, "B": lost}], "A", "B")
    assert hopeless == math.inf
    (both,) = advantage([{"A": zero, "B": zero}], "A", "B")
    assert both == 0.0


def test_a_task_that_is_lost_for_both_from_the_start_is_even():
    """And leaves the median over the other tasks what it is."""
    lost = {name: make_run([np.nan, np.inf]) for name in "AB"}
    won = {"A": make_run([1.0]), "B": make_run([math.e])}
    np.testing.assert_allclose(advantage([lost, won], "A", "B"), [0.0, 1.0])
    assert summarize([won, lost, won], "A", [GRAD], "num_evals")[1].advantage == 1.0


def test_the_median_of_infinite_advantages_is_one_of_them():
    """Each loses one task from the start: I_a is ∞ and -∞, whose mean is no number."""
    lost, fine = make_run([np.nan, np.inf]), make_run([1.0])
    results = [{"A": fine, "B": lost}, {"A": lost, "B": fine}]
    assert summarize(results, "A", [GRAD], "num_evals")[1].advantage == -math.inf


def test_numbers_of_arrays_by_plain_loops():
    """The functions that races and the reproduction share."""
    values = [1.0, 2.0, 0.0, 1e-320, 1e300, math.inf]
    mine, theirs = (list(column) for column in zip(*itertools.product(values, values), strict=True))
    arrays = np.array(mine), np.array(theirs)
    pairs = list(zip(mine, theirs, strict=True))
    np.testing.assert_array_equal(first(*arrays), [100 if m < t else 0 for m, t in pairs])
    np.testing.assert_array_equal(tied(*arrays), [100 if m == t else 0 for m, t in pairs])
    index = [
        0.0 if m == t else math.inf if t == math.inf else -math.inf if m == math.inf
        else math.log(max(t, 1e-300)) - math.log(max(m, 1e-300))
        for m, t in pairs
    ]  # fmt: skip
    np.testing.assert_allclose(log_ratio(np.array(theirs), np.array(mine)), index, rtol=1e-14)
    assert median(arrays[0]) == statistics.median_low(mine)


def test_summary_of_hand_made_runs():
    mine, theirs = summarize(HAND_MADE, "A", [GRAD, Target("value", 2.5)], "num_evals")
    assert (mine.name, theirs.name) == ("A", "B")
    assert mine.median_cost == [3.0, math.inf]
    assert theirs.median_cost == [4.0, 3.0]
    assert mine.reached == [50.0, 25.0]
    assert theirs.reached == [75.0, 50.0]
    assert all(math.isnan(x) for x in [*mine.wins, *mine.ties, mine.advantage])
    # On f < 2.5: A hits at 2 evaluations in task 0 alone; B in tasks 1 and 2.
    assert theirs.wins == [25.0, 25.0]
    assert theirs.ties == [50.0, 25.0]
    assert theirs.advantage == pytest.approx(statistics.median_low([1, -1, math.log(0.5), 0]))
    assert mine.ms_per_eval == pytest.approx(500.0)


def test_the_favourite_comes_first_wherever_it_ran():
    assert [line.name for line in summarize(HAND_MADE, "B", [GRAD], "seconds")] == ["B", "A"]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Target("grad_norm", 1e-3), "‖g‖<1e-3"),
        (Target("grad_norm", 1e-12), "‖g‖<1e-12"),
        (Target("value", 0.01), "f<1e-2"),
        (Target("value", 0.25), "f<0.25"),
        (Target("value", 1.5), "f<1.5"),
    ],
)
def test_targets_say_what_they_are(target, text):
    """No level is shown rounded to another one."""
    level = float(str(target).split("<")[1])
    assert level == target.level
    assert str(target).split("<")[0] == text.split("<")[0]
    if target.level in (1e-3, 1e-12, 0.01):
        assert str(target) == text


# --- the report -----------------------------------------------------------------------------------

NAMES_OF_ALL = [PI, *BASELINES]
TARGETS = [*(Target("grad_norm", eps) for eps in (1e-3, 1e-4, 1e-5)), Target("value", 1e-2)]


def wide_results(seconds=12.3456):
    """All competitors; cells as wide as they get: four-digit costs, 100 %, minutes."""
    run = make_run([4.0, 1e-3], norms=[1.0, 1e-9], evals=[1, 8123], seconds=[0.1, seconds])
    never = make_run([4.0, np.nan], norms=[1.0, np.nan], status=lp.Status.NON_FINITE)
    return [
        {name: (never if name == "Prodigy" else run) for name in NAMES_OF_ALL} for _ in range(3)
    ]


@pytest.mark.parametrize("seconds", [0.008865, 0.01, 12.3456, 123.4567])
def test_tables_fit_a_terminal_of_80_columns_uncut(seconds):
    results = wide_results(seconds)
    screen = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with screen.file:
        for table in rich_tables(results, PI, TARGETS):
            screen.print(table)
        text = screen.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for part in [*NAMES_OF_ALL, *map(str, TARGETS), "8123 (100)", "∞ (0)", "100.0 / 0.0", "I_a"]:
        assert part in text
    assert f"{seconds:#.3g}".rstrip(".") in text
    assert "(100)" in text


def test_markdown_tables_are_whole():
    text = markdown(wide_results(), PI, TARGETS)
    blocks = [
        [line for line in block.splitlines() if line.startswith("|")]
        for block in text.split("**")[2::2]
    ]
    all_of_them = 2 + len(NAMES_OF_ALL)  # header, rule, and the competitors
    assert [len(block) for block in blocks] == [all_of_them] * 2 + [all_of_them - 1] * 2
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1
        assert set(block[1]) <= set("|-: ")
        for target in TARGETS:
            assert str(target) in block[0]
    assert text.endswith("\n")
    assert "nan" not in text


@pytest.mark.parametrize("results", [HAND_MADE, wide_results()], ids=["hand-made", "wide"])
def test_json_is_strict_and_says_what_the_summary_says(results):
    favourite = next(iter(results[0]))
    report = as_json(results, favourite, TARGETS)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["num_tasks"] == len(results)
    assert report["targets"][0] == {"quantity": "grad_norm", "level": 1e-3}
    for cost in ("num_evals", "seconds"):
        for line, row in zip(
            summarize(results, favourite, TARGETS, cost), report["by"][cost], strict=True
        ):
            assert row["name"] == line.name
            for field in ("median_cost", "reached", "wins", "ties"):
                for number, shown in zip(getattr(line, field), row[field], strict=True):
                    assert shown == (number if math.isfinite(number) else None)


# --- figures --------------------------------------------------------------------------------------


def assert_labelled(figure):
    """An x label under every panel, or names at its ticks; a y label for every row of panels."""
    assert figure.axes
    for axes in figure.axes:
        names = [label.get_text() for label in axes.get_xticklabels()]
        assert axes.get_xlabel() or any(name.isidentifier() for name in names)
        spec = axes.get_subplotspec()
        if spec.is_first_col():
            assert axes.get_ylabel()


def assert_png(figure, path):
    assert save_figure(figure, path) == path
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[-8:-4] == b"IEND"
    assert list(path.parent.iterdir()) == [path]


def test_curves_of_a_race(raced, tmp_path):
    figure = curves(raced, PI)
    assert len(figure.axes) == 9
    assert_labelled(figure)
    # Every competitor has its line; step sizes are those of π and of the search.
    assert [len(axes.get_lines()) for axes in figure.axes] == [4] * 6 + [2] * 3
    first = figure.axes[0].get_lines()[0]
    assert first.get_label() == PI
    np.testing.assert_array_equal(first.get_ydata(), raced[0][PI].value)
    steps = {line.get_label(): line for line in figure.axes[6].get_lines()}
    assert set(steps) == {PI, "L-BFGS-BTLS"}
    np.testing.assert_array_equal(steps[PI].get_ydata(), raced[0][PI].step_size)
    assert_png(figure, tmp_path / "curves.png")


def test_fewer_tasks_than_columns(raced):
    assert len(curves(raced[:1], PI).axes) == 3
    assert len(curves(raced, PI, num_tasks=2).axes) == 6


def test_curves_of_values_below_zero_are_of_what_is_left():
    results = [{PI: make_run([4.0, -2.0, -3.0]), "ADAM": make_run([4.0, 1.0])}]
    figure = curves(results, PI)
    assert figure.axes[0].get_ylabel() == "f(x$_k$), less the least"
    mine, theirs = figure.axes[0].get_lines()
    np.testing.assert_array_equal(mine.get_ydata(), [7.0, 1.0, 0.0])
    np.testing.assert_array_equal(theirs.get_ydata(), [7.0, 4.0])


def test_advantage_boxes_of_a_race(raced, tmp_path):
    figure = advantage_boxes(raced, PI)
    assert_labelled(figure)
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["L-BFGS-B", "ADAM", "L-BFGS-BTLS"]
    assert_png(figure, tmp_path / "boxes.png")


def test_loss_curve_has_steps_and_the_medians_of_epochs(tmp_path):
    losses, epochs = np.array([4.0, 2.0, 9.0, 1.0, np.nan]), np.array([0, 0, 0, 1, 1])
    figure = loss_curve(losses, epochs, "title")
    (axes,) = figure.axes
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    steps, medians = axes.get_lines()
    np.testing.assert_array_equal(steps.get_ydata(), losses)
    np.testing.assert_array_equal(medians.get_ydata(), [4.0, 1.0])
    np.testing.assert_array_equal(medians.get_xdata(), [1.0, 3.5])
    assert_png(figure, tmp_path / "loss.png")


def test_loss_curve_of_an_epoch_that_was_skipped_throughout(tmp_path):
    losses, epochs = np.array([4.0, np.nan, np.nan]), np.array([0, 1, 1])
    assert_png(loss_curve(losses, epochs, "title"), tmp_path / "loss.png")


DIVERGED = {
    "to infinity": [4.0, 1e200, np.inf],
    "to NaN": [4.0, np.nan],
    "to minus infinity": [4.0, -np.inf],
    "from the start": [np.inf],
    "nowhere a number": [np.nan, np.nan],
}


@pytest.mark.parametrize("values", some_of(DIVERGED.values(), quick=(0, 1)), ids=DIVERGED)
@pytest.mark.parametrize("who", some_of(["favourite", "rival"], quick=(0,)))
def test_runs_that_diverge_break_neither_figures_nor_tables(tmp_path, values, who):
    lost = make_run(values, norms=np.full(len(values), np.nan), status=lp.Status.NON_FINITE)
    good = make_run([4.0, 2.0, 1e-3], norms=[1.0, 0.1, 1e-4])
    pair = {PI: lost, "ADAM": good} if who == "favourite" else {PI: good, "ADAM": lost}
    results = [pair, {PI: good, "ADAM": good}, pair]
    for name in pair:
        assert np.isfinite(first_hits(results, name, GRAD, "num_evals")).sum() in (1, 3)
    for make in (curves, advantage_boxes):
        figure = make(results, PI)
        low, high = figure.axes[0].get_ylim()
        assert np.isfinite([low, high]).all()
        save_figure(figure, tmp_path / "figure.png")
    assert rich_tables(results, PI, TARGETS)
    assert "nan" not in markdown(results, PI, TARGETS)
    json.dumps(as_json(results, PI, TARGETS), allow_nan=False)


def test_a_run_that_blows_up_does_not_flatten_the_others():
    good, bad = make_run([4.0, 2.0, 1.0]), make_run([4.0, 1e30, 1e200])
    figure = curves([{PI: good, "ADAM": bad}], PI)
    low, high = figure.axes[0].get_ylim()
    assert low < 1.0
    assert 4.0 < high < 100.0
