import io
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from jax_lbfgs_pi.evaluation import Target
from jax_lbfgs_pi.evaluation.figures import line_style
from jax_lbfgs_pi.reproduce import plots, training_plots
from jax_lbfgs_pi.reproduce.records import Records, RunFolder, row_of
from jax_lbfgs_pi.training.log import MetaTrainLog, OuterRecord
from tests.hand_made import PAPERS, PI, make_row, make_run, random_run

INF = math.inf
NAMES = (PI, *PAPERS)


def assert_drawn(figure):
    """Every visible panel says what its axes are; the figure can be drawn, without a warning."""
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert panels
    for axes in panels:
        for low, high in (axes.get_xlim(), axes.get_ylim()):
            assert np.isfinite([low, high]).all()
            assert low < high
    if len(panels) > 2:
        figure.set_layout_engine("none")  # which takes seconds
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=20)
    assert buffer.getvalue().startswith(b"\x89PNG\r\n\x1a\n")


def color_of(name, names=NAMES):
    return line_style(names.index(name))["color"]


# --- curves (Fig. 3 and 7) ------------------------------------------------------------------------


def folder_of(path, runs, curve=lambda task, name: True):
    """A folder with the runs `{(task, optimizer): run}`."""
    folder = RunFolder(path)
    for (task, name), run in runs.items():
        row = row_of(run, task, name, plateau_value=2.2)
        folder.save(run, row, curve=curve(task, name))
    return folder


def runs_of(tasks, names=NAMES):
    return {(task, name): random_run(task, name) for task in tasks for name in names}


@pytest.mark.parametrize(("num", "rows", "columns"), [(1, 1, 1), (3, 1, 3), (7, 2, 5)])
def test_curves_have_two_panels_for_each_task(tmp_path, num, rows, columns):
    figure = plots.curves(folder_of(tmp_path, runs_of(range(num))), range(num), NAMES)
    assert len(figure.axes) == 2 * rows * columns
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 2 * num
    uppers = [axes for axes in shown if axes.get_title()]
    assert [axes.get_title() for axes in uppers] == [f"task {i}" for i in range(num)]
    lowers = [axes for axes in shown if not axes.get_title()]
    assert [len(axes.get_lines()) for axes in uppers] == [5] * num
    assert [len(axes.get_lines()) for axes in lowers] == [2] * num
    for axes in lowers:
        assert axes.get_xlabel() == "wall-clock time (s)"
    for axes in shown:
        if axes.get_subplotspec().is_first_col():
            assert axes.get_ylabel()
        assert axes.get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(NAMES)
    assert_drawn(figure)


def test_curves_are_what_was_recorded(tmp_path):
    tasks = [4, 0]
    runs = runs_of(range(5))
    figure = plots.curves(folder_of(tmp_path, runs), tasks, NAMES)
    for i, task in enumerate(tasks):
        upper, lower = figure.axes[i], figure.axes[2 + i]
        assert upper.get_title() == f"task {task}"
        for line, name in zip(upper.get_lines(), NAMES, strict=True):
            assert line.get_label() == name
            assert line.get_color() == color_of(name)
            np.testing.assert_array_equal(line.get_xdata(), np.float32(runs[task, name].seconds))
            np.testing.assert_array_equal(line.get_ydata(), np.float32(runs[task, name].value))
        for line, name in zip(lower.get_lines(), (PI, "L-BFGS-BTLS"), strict=True):
            assert line.get_color() == color_of(name)
            np.testing.assert_array_equal(line.get_xdata(), np.float32(runs[task, name].seconds))
            np.testing.assert_array_equal(line.get_ydata(), np.float32(runs[task, name].step_size))
        assert upper.get_xlim() == lower.get_xlim()
        middle = sorted(runs[task, name].seconds[-1] for name in NAMES)[2]
        np.testing.assert_allclose(upper.get_xlim(), (0, 1.05 * middle), rtol=1e-6)


def test_curves_of_a_packed_folder_are_the_same(tmp_path):
    folder = folder_of(tmp_path, runs_of([0, 1]))
    before = plots.curves(folder, [0, 1], NAMES)
    folder.pack()
    after = plots.curves(RunFolder(tmp_path), [0, 1], NAMES)
    for a, b in zip(before.axes, after.axes, strict=True):
        for mine, theirs in zip(a.get_lines(), b.get_lines(), strict=True):
            np.testing.assert_array_equal(mine.get_xydata(), theirs.get_xydata())


def test_curves_without_some_competitor(tmp_path):
    """Those that have not run yet have no line, and the others keep their colours."""
    runs = runs_of([0, 1], (PI, "RMSProp")) | runs_of([0], ("ADAM",))
    figure = plots.curves(folder_of(tmp_path, runs), [0, 1], NAMES)
    assert [len(axes.get_lines()) for axes in figure.axes] == [3, 2, 1, 1]
    assert figure.axes[1].get_lines()[1].get_color() == color_of("RMSProp")
    assert_drawn(figure)


def test_a_task_without_curves_has_no_panels(tmp_path):
    folder = folder_of(tmp_path, runs_of([0, 1]), curve=lambda task, name: task == 1)
    figure = plots.curves(folder, [0, 1], NAMES)
    assert [axes.get_visible() for axes in figure.axes] == [False, True, False, True]
    assert [len(axes.get_lines()) for axes in figure.axes] == [0, 5, 0, 2]
    assert_drawn(figure)


@pytest.mark.parametrize("values", [[4.0, 1e30, 1e200, INF], [4.0, 2.0, math.nan]], ids=str)
@pytest.mark.parametrize("who", [PI, "ADAM"])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # tested with the records
def test_curves_of_runs_that_diverge(tmp_path, values, who):
    """A run that blows up does not flatten the others, and is drawn until it does."""
    runs = {(0, name): make_run([4.0, 2.0, 1.0]) for name in NAMES}
    runs[0, who] = make_run(values, norms=np.ones(len(values)))
    figure = plots.curves(folder_of(tmp_path, runs), [0], NAMES)
    low, high = figure.axes[0].get_ylim()
    assert low < 1.0
    assert 4.0 < high < 100.0
    (line,) = [x for x in figure.axes[0].get_lines() if x.get_label() == who]
    np.testing.assert_array_equal(line.get_ydata()[0], 4.0)
    assert not np.isinf(line.get_ydata()).any()
    assert_drawn(figure)


# --- scatter (Fig. 4) -----------------------------------------------------------------------------

TARGETS = [Target("grad_norm", 1e-3), Target("grad_norm", 1e-5)]


def scatter_records(mine, theirs):
    rows = []
    for task, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        for i, name in enumerate((PI, *PAPERS)):
            x, more = (a, 0) if name == PI else (b, i - 1)
            evals = {"‖g‖<1e-3": x + more, "‖g‖<1e-5": 10 * x + more}
            times = {target: cost / 4 for target, cost in evals.items()}
            rows.append(make_row(task, name, evals=evals, times=times))
    return Records(rows)


MINE, THEIRS = [5.0, 7.0, INF, 9.0, INF, INF], [6.0, 7.0, 8.0, INF, INF, INF]


@pytest.mark.parametrize(("cost", "unit", "word"), [("num_evals", 1.0, "evaluations"),
                                                    ("seconds", 0.25, "(s)")])  # fmt: skip
def test_scatter_shows_every_task(cost, unit, word):
    figure = plots.scatter(scatter_records(MINE, THEIRS), PI, PAPERS, TARGETS, cost)
    grid = np.reshape(figure.axes, (2, 4))
    for row, (target, scale) in zip(grid, zip(TARGETS, (1.0, 10.0), strict=True), strict=True):
        for i, (axes, name) in enumerate(zip(row, PAPERS, strict=True)):
            assert axes.get_title() == f"{name}, {target}"
            points, diagonal = axes.get_lines()
            x, y = points.get_xdata(), points.get_ydata()
            # A number stands for the two that neither met (paper: "are not displayed").
            drawn = [(a, b) for a, b in zip(MINE, THEIRS, strict=True) if min(a, b) < INF]
            assert len(x) == len(y) == len(drawn) == 4
            theirs = np.array([unit * (scale * b + i) for _, b in drawn])
            mine = np.array([unit * scale * a for a, _ in drawn])
            np.testing.assert_allclose(x[np.isfinite(theirs)], theirs[np.isfinite(theirs)])
            np.testing.assert_allclose(y[np.isfinite(mine)], mine[np.isfinite(mine)])
            # What was never met stands in the margins, beyond everything that was.
            (beyond,) = {*x[np.isinf(theirs)], *y[np.isinf(mine)]}
            most = max(theirs[np.isfinite(theirs)].max(), mine[np.isfinite(mine)].max())
            least = min(theirs.min(), mine.min())
            assert beyond > 1.2 * most
            low, high = axes.get_xlim()
            assert axes.get_ylim() == (low, high)
            assert low < least
            assert beyond < high
            for edge in (s.get_bbox() for s in axes.patches):
                inside_x = edge.x0 < beyond < edge.x1 and edge.x0 > most
                inside_y = edge.y0 < beyond < edge.y1 and edge.y0 > most
                assert inside_x or inside_y  # the grey bands lie around ∞, and hide no point
            assert len(axes.patches) == 2
            np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
            texts = sorted(text.get_text() for text in axes.texts)
            assert texts == ["2", "∞", "∞"]  # two tasks where neither met the target
            assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    for axes in grid[-1]:
        assert word in axes.get_xlabel()
    for axes in grid[:, 0]:
        assert word in axes.get_ylabel()
        assert PI in axes.get_ylabel()
    assert_drawn(figure)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [([INF, INF], [INF, INF]), ([5.0], [5.0]), ([5.0], [INF]), ([], []), ([1.0, 2.0], [3.0, 4.0])],
    ids=["nothing met", "one task", "one side", "no task", "all met"],
)
def test_scatter_of_little(mine, theirs):
    records = scatter_records(mine, theirs)
    figure = plots.scatter(records, PI, PAPERS, TARGETS[:1], "num_evals")
    assert len(figure.axes) == 4
    neither = sum(a == b == INF for a, b in zip(mine, theirs, strict=True))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["∞", "∞", *([str(neither)] if neither else [])]
    assert len(figure.axes[0].get_lines()[0].get_xdata()) == len(mine) - neither
    assert_drawn(figure)


# --- boxes (Fig. 5, 6 and 8) ----------------------------------------------------------------------


def box_records(num=21, policies=(PI,), value="min_value", seed=0):
    rng = np.random.default_rng(seed)
    return Records(
        make_row(task, name, **{value: float(x)})
        for name in (*policies, *PAPERS)
        for task, x in enumerate(rng.lognormal(sigma=3, size=num))
    )


def index_of(records, policy, name, value):
    tasks = range(21)
    a, pi = (records.column(n, value, tasks) for n in (name, policy))
    return np.array([math.log(x / y) for x, y in zip(a, pi, strict=True)])


def drawn_boxes(axes):
    """(centre, lower and upper quartile) of each box, in the order in which they were drawn."""
    out = []
    for patch in axes.patches:
        x, y = patch.get_path().vertices[:5].T
        out.append(((x.min() + x.max()) / 2, y.min(), y.max()))
    return out


@pytest.mark.parametrize("value", ["min_value", "final_value"])
@pytest.mark.parametrize("policies", [(PI,), (PI, "L-BFGS-π_C")], ids=len)
def test_boxes_are_quartiles(value, policies):
    panels = [
        (title, box_records(policies=policies, value=value, seed=i), policies)
        for i, title in enumerate(["first", "second", "third"])
    ]
    figure = plots.boxes(panels, PAPERS, value)
    assert [axes.get_title() for axes in figure.axes] == ["first", "second", "third"]
    for axes, (_, records, _) in zip(figure.axes, panels, strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == list(PAPERS)
        found = drawn_boxes(axes)
        assert len(found) == 4 * len(policies)
        lines = {tuple(line.get_xdata()): line.get_ydata() for line in axes.get_lines()}
        assert len(lines) > 4 * len(policies)
        expected = [(j, policy, i, name) for j, policy in enumerate(policies)
                    for i, name in enumerate(PAPERS)]  # fmt: skip
        for (centre, low, high), (j, policy, i, name) in zip(found, expected, strict=True):
            index = index_of(records, policy, name, value)
            np.testing.assert_allclose([low, high], np.percentile(index, [25, 75]), rtol=1e-12)
            assert round(centre) == i  # beside its tick
            if len(policies) == 2:
                assert (centre < i) == (j == 0)
            (median,) = [
                y[0] for x, y in lines.items()
                if len(x) == 2 and x[0] < centre < x[1] and x[1] - x[0] < 1 and y[0] == y[1]
                and low < y[0] < high
            ]  # fmt: skip
            assert median == pytest.approx(np.median(index))
    assert_drawn(figure)


def test_whiskers_hold_90_of_100_tasks():
    records = box_records()
    (axes,) = plots.boxes([("", records, (PI,))], PAPERS).axes
    index = index_of(records, PI, "ADAM", "min_value")
    low, high = np.percentile(index, [5, 95])
    inside = index[(index >= low) & (index <= high)]
    # What lies beyond the whiskers is drawn point by point.
    fliers = [line for line in axes.get_lines() if line.get_marker() == "."]
    ends = [
        line.get_ydata()[1]
        for line in axes.get_lines()
        if line not in fliers and list(line.get_xdata()) == [0.0, 0.0]
    ]
    np.testing.assert_allclose(sorted(ends), [inside.min(), inside.max()])
    assert sorted(fliers[0].get_ydata()) == pytest.approx(sorted(set(index) - set(inside)))


def test_boxes_say_what_is_above_zero():
    for value, word in (("min_value", "least f"), ("final_value", "final f")):
        figure = plots.boxes([("", box_records(value=value), (PI,))], PAPERS, value)
        (axes,) = figure.axes
        assert word in axes.get_ylabel()
        assert "above 0: π is lower" in axes.get_ylabel()
        assert any(list(line.get_ydata()) == [0, 0] for line in axes.get_lines())


def test_policies_side_by_side_are_told_apart():
    """One entry of the legend for each policy, in the colour of its boxes."""
    policies = (PI, "L-BFGS-π_C")
    (axes,) = plots.boxes([("", box_records(policies=policies), policies)], PAPERS).axes
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list(policies)
    colours = [tuple(patch.get_facecolor()) for patch in axes.patches]
    assert colours[:4] == [colours[0]] * 4
    assert colours[4:] == [colours[4]] * 4
    assert colours[0] != colours[4]
    (one,) = plots.boxes([("", box_records(), (PI,))], PAPERS).axes
    assert one.get_legend() is None


@pytest.mark.parametrize("end", [INF, math.nan, 0.0, 1e-320])
def test_boxes_of_runs_that_ended_in_overflow(end):
    rows = [make_row(t, name, final_value=end if (t + i) % 3 == 0 else 1.0)
            for i, name in enumerate((PI, *PAPERS)) for t in range(9)]  # fmt: skip
    figure = plots.boxes([("", Records(rows), (PI,))], PAPERS, "final_value")
    for line in figure.axes[0].get_lines():
        assert np.isfinite(np.asarray(line.get_ydata(), float)).all()
    assert_drawn(figure)


def test_boxes_of_competitors_that_have_not_run_are_empty():
    rows = [make_row(t, name) for name in (PI, "ADAM") for t in range(3)]
    figure = plots.boxes([("", Records(rows), (PI,))], PAPERS)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(PAPERS)
    assert_drawn(figure)


# --- figures of training --------------------------------------------------------------------------


def log_of(losses, epochs=None, unrolls=None, tau_max=None, skipped=None):
    num = len(losses)
    return MetaTrainLog(
        [
            OuterRecord(
                step=i,
                epoch=0 if epochs is None else epochs[i],
                group=0,
                unroll=0 if unrolls is None else unrolls[i],
                tasks=[0],
                loss=float(losses[i]),
                last_value=1.0,
                grad_norm=1.0,
                num_skipped=0 if skipped is None else skipped[i],
                tau_min=-3.0 - 0.01 * i,
                tau_max=0.0 if tau_max is None else tau_max[i],
                seconds=0.1 * (i + 1),
            )
            for i in range(num)
        ]
    )


LOG = log_of(
    [9.0, 100.0, 5.0, 7.0, 1000.0, 3.0, math.nan, 4.0, math.inf, math.nan],
    epochs=[0, 0, 0, 0, 1, 1, 1, 1, 1, 2],
    unrolls=[0, 1, 0, 0, 1, 0, 0, 0, 0, 0],
    skipped=[0, 0, 0, 0, 0, 0, 1, 0, 2, 1],
)


def test_limits_are_those_of_the_log():
    tau_max = [0.0, 0.5, 0.25, -0.1]
    figure = training_plots.limits(log_of([1.0] * 4, tau_max=tau_max))
    upper, lower = figure.axes
    np.testing.assert_array_equal(upper.get_lines()[0].get_ydata(), tau_max)
    np.testing.assert_allclose(lower.get_lines()[0].get_ydata(), [-3.0, -3.01, -3.02, -3.03])
    for axes in (upper, lower):
        np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), range(4))
        assert axes.get_ylabel()
    assert "M" in upper.get_ylabel()
    assert lower.get_xlabel() == "outer step"
    assert_drawn(figure)


def test_first_unrolls_are_summed_up_by_epoch():
    """Of epoch 0: 9, 5, 7; of epoch 1: 3 and 4, as the rest is not finite; of epoch 2 nothing."""
    np.testing.assert_array_equal(training_plots.first_unroll_medians(LOG), [7.0, 3.5, math.nan])
    assert training_plots.first_unroll_medians(MetaTrainLog([])) == []


def test_losses_of_the_layers():
    logs = {"implicit": LOG, "clip": log_of([2.0, 4.0])}
    figure = training_plots.losses(logs)
    (axes,) = figure.axes
    first, second = axes.get_lines()
    assert [line.get_label() for line in (first, second)] == ["implicit", "clip"]
    np.testing.assert_array_equal(first.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(first.get_ydata(), [7.0, 3.5, math.nan])
    np.testing.assert_array_equal(second.get_xydata(), [[1.0, 3.0]])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["implicit", "clip"]
    assert axes.get_xlabel() == "epoch"
    assert axes.get_ylabel()
    assert_drawn(figure)


def test_derivatives_of_the_layers():
    distances = np.array([-0.1, -1e-6, 0.0, 1e-6, 0.1])
    by_layer = {"one": np.array([1.0, 1.0, 0.5, 1e-4, 0.0]), "two": np.array([1.0] * 5)}
    figure = training_plots.derivatives(distances, by_layer)
    (axes,) = figure.axes
    for line, (name, values) in zip(axes.get_lines(), by_layer.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_xdata(), distances)
        np.testing.assert_array_equal(line.get_ydata(), np.where(values > 0, values, 1e-9))
    assert "1e-9" in axes.get_ylabel()  # where zeros stand
    assert axes.get_xlabel()
    assert axes.get_title()
    assert_drawn(figure)


def test_table_of_the_layers():
    table = training_plots.layer_table({"implicit": LOG, "clip": log_of([2.0, 4.0])})
    assert table.header[0] == "clip layer"
    # Steps, F of the first and last epoch, skipped unrolls, the median of 0.1 .. 1.0 seconds.
    assert table.rows == [
        ["implicit", "10", "7", "–", "4", "0.55"],
        ["clip", "2", "3", "3", "0", "0.15"],
    ]
    assert all(len(row) == len(table.header) for row in table.rows)


def test_every_figure_is_a_new_one():
    """No pyplot: nothing is kept between figures, and no window is opened."""
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figures = [
        training_plots.limits(LOG),
        training_plots.losses({"implicit": LOG}),
        plots.boxes([("", box_records(), (PI,))], PAPERS),
    ]
    assert all(type(figure) is Figure for figure in figures)
    assert plt.get_fignums() == before
