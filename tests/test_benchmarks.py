import io
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from benchmarks import __main__ as bench
from benchmarks import (
    batch,
    batch_bounds,
    batch_problems,
    cnn,
    communication,
    dense,
    iteration,
    memory,
    meta_step,
    peers,
    problems,
    report,
    solution,
    step,
    timing,
)
from benchmarks.host_solvers import scipy_solver
from benchmarks.solvers import ours, with_optax
from jax_lbfgs_pi.tasks import CNN, Classification
from tests import oracles
from tests.marks import some_of


class FakeClock:
    """Seconds that pass only when a function says so."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def takes(self, name, *durations):
        durations = iter(durations)

        def call():
            self.order.append(name)
            self.now += next(durations)

        return call


def test_functions_take_turns_and_medians_are_compared():
    clock = FakeClock()
    timed = timing.compare(
        {"a": clock.takes("a", 9.0, 1.0, 2.0, 30.0), "b": clock.takes("b", 9.0, 4.0, 4.0, 4.0)},
        budget=0.0, least=3, warm_up=1, clock=clock,
    )  # fmt: skip
    assert clock.order[:2] == ["a", "b"]  # they warm up
    assert [sorted(clock.order[i : i + 2]) for i in (2, 4, 6)] == [["a", "b"]] * 3
    assert timed.seconds == {"a": 2.0, "b": 4.0}
    assert timed.ratio("b", "a") == 2.0
    assert timed.repetitions == 3


def test_nobody_always_comes_after_the_same():
    clock = FakeClock()
    names = "abcd"
    calls = {name: clock.takes(name, *[1.0] * 40) for name in names}
    timing.compare(calls, budget=0.0, least=40, warm_up=0, clock=clock)
    before = {pair for pair in itertools.pairwise(clock.order) if len(set(pair)) == 2}
    assert len(before) == 4 * 3


def test_set_up_is_not_timed_and_calls_share_the_time():
    clock = FakeClock()
    candidate = timing.Candidate(
        clock.takes("call", *[2.0] * 12), clock.takes("setup", *[100.0] * 4), calls=3
    )
    timed = timing.compare({"a": candidate}, budget=0.0, least=3, warm_up=1, clock=clock)
    assert timed.seconds == {"a": 2.0}
    assert clock.order == ["setup", "call", "call", "call"] * 4


def test_what_set_up_began_is_waited_for():
    """JAX returns before the work is done."""

    class Pending:
        def block_until_ready(self):
            clock.order.append("waited")

    clock = FakeClock()
    candidate = timing.Candidate(clock.takes("call", *[2.0] * 2), Pending, calls=1)
    timing.compare({"a": candidate}, budget=0.0, least=2, warm_up=0, clock=clock)
    assert clock.order == ["waited", "call"] * 2


def test_fast_calls_are_repeated_until_the_clock_can_see_them():
    clock = FakeClock()
    fast = clock.takes("fast", *[timing.SHORTEST / 4] * 1000)
    timing.compare({"fast": fast}, budget=0.0, least=2, warm_up=2, clock=clock)
    assert len(clock.order) == 2 + 2 * 4


def test_the_budget_ends_it_but_not_before_the_least():
    clock = FakeClock()
    slow = clock.takes("slow", *[1.0] * 100)
    assert timing.compare({"a": slow}, budget=6.5, least=2, clock=clock).repetitions == 7
    assert timing.compare({"a": slow}, budget=0.0, least=4, clock=clock).repetitions == 4


def test_donated_state_is_fed_back():
    add = jax.jit(lambda state, x: (state + x, x), donate_argnums=0)
    counter = timing.Stateful(add, jnp.zeros(3), [(1.0,), (10.0,)])
    for _ in range(5):
        counter()
    np.testing.assert_array_equal(counter.state, np.full(3, 23.0))


@pytest.mark.parametrize("shapes", [[(4, 2), (2, 2), (2, 3)], [(100_000,)]])
def test_an_update_is_timed_with_a_full_window_of_usable_pairs(shapes):
    m = 3
    points = problems.quadratic_points(shapes)
    steppers = step.candidates(shapes, m)
    steppers = {name: steppers[name] for name in ("ours", "bare", "optax")}
    num_updates = 3 * m + 1
    for name, stepper in steppers.items():
        for _ in range(num_updates):
            _, out = stepper()
        update = jax.flatten_util.ravel_pytree(out)[0]
        flat = [
            [np.asarray(jax.flatten_util.ravel_pytree(v)[0]) for v in points[i % len(points)]]
            for i in range(num_updates)
        ]
        steps = zip(flat[-m - 1 :], flat[-m:], strict=False)
        pairs = [(x1 - x0, g1 - g0) for (x0, g0), (x1, g1) in steps]
        assert len(pairs) == m
        assert min(s @ y for s, y in pairs) > 0
        g, none = flat[-1][1], np.zeros(m)
        directions = [oracles.two_loop(pairs, g)]
        if name == "ours":  # the default's γ and ω are its own, and the direction linear in them
            directions = [oracles.direction(pairs, 1.0, g, none)]
            directions += [oracles.direction(pairs, 0.0, g, omegas) for omegas in np.eye(m)]
        directions = np.stack(directions)
        weights = np.linalg.lstsq(directions.T, update)[0]
        error = np.linalg.norm(weights @ directions - update)
        assert error < 1e-7 * np.linalg.norm(update)
    step.check_steady(steppers)


@pytest.mark.parametrize("name", ["ours", "optax"])
def test_a_loop_makes_the_updates_that_single_calls_make(name):
    steppers = step.candidates([(3,)], 2)
    total = problems.quadratic_points([(3,)])[0][0]
    for _ in range(step.loop_length(3)):
        _, updates = steppers[name]()
        total += updates
    (_, looped), _ = steppers[f"{name} in a loop"]()
    np.testing.assert_allclose(looped, total, rtol=1e-9)


def test_what_is_not_steady_is_not_reported():
    overflowed = timing.Stateful(lambda state: (state, None), jnp.full(2, jnp.nan))
    with pytest.raises(AssertionError, match="steady"):
        step.check_steady({"ours": overflowed})


def test_the_floor_reads_twice_writes_thrice_and_allocates_nothing():
    n, m = 50, 2
    floor = step.floor(n, m)
    rows, coefficients = next(floor._arguments)
    analysis = floor._function.lower(floor.state, rows, coefficients).compile().memory_analysis()
    assert analysis.alias_size_in_bytes == 3 * n * 8
    assert analysis.temp_size_in_bytes < n * 8
    floor()
    first = sum(1 / (1 + i) * (1 + i) for i in range(2 * m + 1))
    second = first + sum(1 + i for i in range(2 * m + 1))
    for vector, value in zip(floor.state, (first, second, second / 2), strict=True):
        np.testing.assert_allclose(vector, np.full(n, value))


@pytest.mark.slow
def test_step_part_has_a_table_of_80_columns_and_figures(monkeypatch, tmp_path):
    sizes = step.Sizes((10,), ((1, 2),), (2,), (10,), (1, 2), budget=0.0)
    monkeypatch.setattr(step, "QUICK", sizes)
    monkeypatch.setattr(problems, "INPUTS", 5)
    results = step.measure(report.Options(quick=True))
    assert [row["n"] for row in results["rows"]] == [10, 5 * 2 + 4 + 20, 10]
    assert all(row["ratio_to_optax"] > 0 for row in results["rows"])
    assert all(row["ratio_in_a_loop"] > 0 for row in results["rows"])
    row = {**results["rows"][0], "n": 3_195_200}
    assert _width(step.tables({"rows": [row], "num_table_rows": 1})) <= 80
    assert _width(step.tables(results)) <= 80
    for name, figure in step.figures(results).items():
        figure.savefig(tmp_path / f"{name}.png")
    assert {path.name for path in tmp_path.iterdir()} == {"step_n.png", "step_m.png"}


def _width(tables):
    console = Console(width=200, file=io.StringIO())
    for table in tables:
        console.print(table)
    return max(len(line.rstrip()) for line in console.file.getvalue().splitlines())


def test_batch_table_has_80_columns():
    def of_all(value):
        return dict.fromkeys([*batch_problems.SOLVERS, *batch_bounds.BOUNDS], value)

    race = {
        "name": "exponential ×4096", "iterations": of_all(1234), "speedup": of_all(12.3),
        "evals_per_iteration": of_all(10.5), "seconds": of_all(0.1234),
    }  # fmt: skip
    undecided = {**race, "speedup": None}
    assert _width(batch.tables({"races": [race, undecided]})) <= 80


def test_time_to_solution_is_that_of_runs_which_reach_one_f(monkeypatch, tmp_path):
    """Of the choices of threads the faster stands in the table; who is not there has a dash."""
    makers = {
        solution.OURS: ours(),
        "optax": with_optax(lambda: optax.sgd(1e-5)),  # never arrives
        "SciPy/1": scipy_solver("L-BFGS-B"),
        "SciPy/2": scipy_solver("L-BFGS-B", threads=2),
    }
    monkeypatch.setattr(solution, "makers", lambda memory_size: makers)
    monkeypatch.setattr(
        solution, "SMALL", [("Rosenbrock", lambda: solution.chained_rosenbrock(2), 200)]
    )
    results = solution.measure(report.Options(quick=True))
    (row,) = results["races"]
    ((level, outcome),) = row["levels"].items()
    assert level == "1e-6"
    assert outcome["target"] <= 1e-6 * 24.2 * 1.01  # f(x0), and f* is 0
    assert set(outcome["seconds"]) == {solution.OURS, "SciPy/1", "SciPy/2"}
    assert outcome["evals"]["optax"] is None
    assert outcome["evals"]["SciPy/1"] == outcome["evals"]["SciPy/2"]
    assert solution.best({"a/1": 2.0, "a/2": 1.0, "ab": 0.5}, "a") == 1.0
    assert solution.best({}, "a") is None
    assert _width(solution.tables({"races": [{**row, "name": "physics-informed"}]})) <= 80
    for name, figure in solution.figures(results).items():
        figure.savefig(tmp_path / f"{name}.png")
    assert (tmp_path / "solution.png").is_file()


def test_a_dense_step_is_timed_beside_its_floor(monkeypatch):
    monkeypatch.setattr(dense, "QUICK", (12,))
    results = dense.measure(report.Options(quick=True))
    assert _width(dense.tables(results)) <= 80
    ((row,),) = [results["rows"]]
    assert set(row["seconds"]) == {"dense", "window", "floor"}
    least = dense.floor(12)
    before, (v, w) = np.asarray(least.state), (np.ones(12), np.full(12, 12**-0.5))
    after, product = least()
    np.testing.assert_allclose(after, 0.5 * before + np.outer(w, w))
    np.testing.assert_allclose(product, before @ v)


def test_l_bfgs_pi_evaluates_once_and_a_line_search_reports_how_often():
    counts = {}
    for name, make in (("ours", iteration.pi_iteration), ("optax", iteration.optax_iteration)):
        stepper, setup = iteration.iterate(
            *make(batch_problems.rosenbrock, jnp.zeros(4)), data=None
        )
        setup()
        counts[name] = int(stepper.state[2])
        assert bool(jnp.all(jnp.isfinite(stepper.state[0])))
    assert counts["ours"] == iteration.SKIPPED
    assert counts["optax"] > iteration.SKIPPED


@pytest.mark.parametrize("solver", some_of(batch_problems.SOLVERS, quick=(0, 3)))
def test_batches_get_the_fewest_iterations_and_evaluations_are_counted(solver):
    batch = batch_problems.rosenbrocks(5)._replace(target=2.0)
    fewest = batch_problems.FEWEST_ITERATIONS[solver](batch, 256)

    def median(max_iters):
        solve = batch_problems.mapped(batch_problems.SOLVERS[solver](batch.loss, max_iters))
        return float(jnp.median(solve(batch.x0, batch.data)[1]))

    assert median(fewest) <= batch.target < median(fewest - 1)
    count = batch_problems.executed_evaluations(batch_problems.SOLVERS[solver], batch, fewest)
    # The last iterate is evaluated too; zoom goes on for the slowest problem of the batch.
    assert count > fewest + 1 if solver == batch_problems.OPTAX else count == fewest + 1


def test_the_bound_of_a_batch_is_as_many_evaluations():
    batch = batch_problems.rosenbrocks(3)
    count = batch_problems.executed_evaluations(batch_bounds.evaluations_one, batch, 7)
    assert count == 8  # that of x0 too
    x, _ = batch_problems.mapped(batch_bounds.evaluations_one(batch.loss, 7))(batch.x0, None)
    assert float(jnp.max(jnp.abs(x - batch.x0))) > 0  # each evaluation is at another point


def test_the_bound_of_a_method_with_a_matrix_is_bfgs():
    """Against BFGS in NumPy, and an evaluation a step but for that of x0."""
    batch = batch_problems.rosenbrocks(2)
    count = batch_problems.executed_evaluations(batch_bounds.bare_bfgs_one, batch, 7)
    assert count == 7  # and the gradient at x0
    found, _ = batch_problems.mapped(batch_bounds.bare_bfgs_one(batch.loss, 7))(batch.x0, None)
    gradient = jax.grad(batch_problems.rosenbrock)
    for x, last in zip(np.asarray(batch.x0), np.asarray(found), strict=True):
        g, H = np.asarray(gradient(x, None)), np.eye(10)
        for _ in range(7):
            x_old, g_old = x, g
            x = x - 1e-3 * H @ g
            g = np.asarray(gradient(x, None))
            s, y = x - x_old, g - g_old
            if s @ y > 0:
                V = np.eye(10) - np.outer(y, s) / (s @ y)
                H = V.T @ H @ V + np.outer(s, s) / (s @ y)
        np.testing.assert_allclose(last, x, rtol=1e-9)


# cvxpylayers 1.2 converts tensors in a way that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pytorch_computes_the_same_outer_step(monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    if meta_step.torch_peer() is None:
        pytest.skip("needs PyTorch and cvxpylayers: pip install 'jax_lbfgs_pi[bench]'")
    problem = problems.mlp_task()
    data = jax.tree.map(lambda leaf: leaf[:50], problem.data)
    errors = meta_step.check_torch_agrees(problem._replace(data=data), num_steps=3)
    assert max(errors.values()) < meta_step.AGREEMENT


def test_a_missing_peer_is_left_out_with_a_line(monkeypatch):
    def nothing_there(name):
        raise ImportError(name)

    monkeypatch.setattr(peers.importlib, "import_module", nothing_there)
    assert peers.load("jaxopt") is None
    assert meta_step.torch_peer() is None
    (line,) = peers.missing("jaxopt")
    assert "pip install 'jax_lbfgs_pi[bench]'" in line


@pytest.mark.slow
def test_a_part_that_runs_again_replaces_its_own_results_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(memory, "NETWORK", (1, 3))
    monkeypatch.setattr(memory, "UNROLL_LENGTH", 2)
    report.write_part(tmp_path, "step", {"kept": float("inf")})
    report.write_part(tmp_path, "memory", {"stale": 1})
    assert bench.main(["--quick", "--only", "memory", "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / report.RESULTS).read_text())
    assert written["step"] == {"kept": None}
    assert "stale" not in written["memory"]
    provenance = written["memory"]["provenance"]
    assert provenance["command"].startswith("python -m benchmarks --quick --only memory")
    assert provenance["versions"]["jax"] == jax.__version__
    assert provenance["x64"] is True
    ours = next(row for row in written["memory"]["rows"] if row["name"] == "L-BFGS-π")
    n = written["memory"]["n"]
    assert n == 784 * 3 + 9 + 30
    assert 12 <= ours["state"] < 12 + 200 / n  # (2m + 2) n numbers, and O(m²) more
    assert ours["extra"] >= 1  # the update itself
    assert written["memory"]["meta"][0]["temporary"] > 2
    assert max(map(len, capsys.readouterr().out.splitlines())) <= max(80, len(str(tmp_path)) + 20)


def test_an_interrupt_keeps_the_finished_parts(monkeypatch, tmp_path):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(memory, "measure", lambda options: {"n": 1, "rows": [], "meta": []})
    monkeypatch.setattr(step, "measure", interrupted)
    assert bench.main(["--only", "memory", "step", "--out", str(tmp_path)]) == 130
    assert set(json.loads((tmp_path / report.RESULTS).read_text())) == {"memory"}


def test_the_huge_run_is_three_steps_of_the_default_that_fall():
    result = memory.huge(20_000)
    assert result["memory_size"] == 10
    assert result["peak_bytes"] > 4 * 22 * 20_000
    assert result["values"] == sorted(result["values"], reverse=True)
    assert len(set(result["values"])) == 3


def test_collectives_of_an_iteration_are_counted_in_programs():
    # Two loops over the pairs with one each; the search, its slopes, and the products of the pair.
    assert communication.count_elsewhere(3) == {"L-BFGS-π": 2, "optax.lbfgs": 2 * 3 + 3}


@pytest.mark.parametrize("num_devices", [1, 8, 100])
def test_the_simulated_step_takes_what_the_formula_says(num_devices):
    step = communication.Step(vectors=30, collectives=4)
    seconds = communication.simulate(step, num_devices, 10**8)
    assert np.mean(seconds) == pytest.approx(
        communication.mean_seconds(step, num_devices, 10**8), rel=1e-3
    )


def test_huge_is_for_memory_alone(capsys):
    with pytest.raises(SystemExit):
        bench.parse(["--huge"])
    assert "--only memory" in capsys.readouterr().err


@pytest.mark.slow
def test_the_peers_of_the_cnn_compute_what_it_computes():
    task = Classification(CNN(), (32, 32, 3))
    x0, rng = task.init(jax.random.key(0)), np.random.default_rng(0)
    data = {"images": jnp.array(rng.uniform(size=(2, 32, 32, 3))), "labels": jnp.array([3, 7])}
    expected = task.loss(x0, data)
    np.testing.assert_allclose(cnn.loss(x0, data), expected, rtol=1e-14)
    np.testing.assert_allclose(cnn.loss(x0, data, cnn.by_rows), expected, rtol=1e-14)
