import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.baselines import policy_competitor
from jax_lbfgs_pi.evaluation import (
    Run,
    load_results,
    race,
)
from tests import oracles
from tests.race.helpers import BASELINES, PI, competitors

FIELDS = [field.name for field in dataclasses.fields(Run)]


def assert_same(a, b, *, but=()):
    assert [list(runs) for runs in a] == [list(runs) for runs in b]
    for mine, theirs in zip(a, b, strict=True):
        for name in mine:
            for field in FIELDS:
                if field not in but:
                    np.testing.assert_array_equal(
                        getattr(mine[name], field), getattr(theirs[name], field)
                    )


# --- a race ---------------------------------------------------------------------------------------


def plain_quadratic(tasks, i):
    data, x0 = tasks[i]
    A, c = np.asarray(data["A"]), np.asarray(data["c"])
    return lambda x: (0.5 * (x - c) @ A @ (x - c), A @ (x - c)), np.asarray(x0)


def test_every_task_and_competitor_has_its_run(raced):
    assert [list(runs) for runs in raced] == [[PI, "L-BFGS-B", "ADAM", "L-BFGS-BTLS"]] * 3


def test_runs_are_those_of_plain_loops(tasks, raced):
    """L-BFGS-B, until the first gradient below the tolerance, or 60 steps."""
    for i, runs in enumerate(raced):
        value_and_grad, x = plain_quadratic(tasks, i)
        values, norms, pairs = [], [], []
        for k in range(61):
            f, g = value_and_grad(x)
            values.append(f)
            norms.append(np.linalg.norm(g))
            if norms[-1] < 1e-2 or k == 60:
                break
            x_next = x + oracles.two_loop(pairs, g)
            pairs = [*pairs, (x_next - x, value_and_grad(x_next)[1] - g)][-5:]
            x = x_next
        run = runs["L-BFGS-B"]
        assert len(run.value) == len(values)
        # Rounding grows along a run: what matters is compared to what f and ‖g‖ were at first.
        np.testing.assert_allclose(run.value, values, rtol=1e-6, atol=1e-9 * values[0])
        np.testing.assert_allclose(run.grad_norm, norms, rtol=1e-5, atol=1e-7 * norms[0])
        expected = lp.Status.CONVERGED if norms[-1] < 1e-2 else lp.Status.MAX_ITERS
        assert run.status == expected


def test_adam_never_converges_here_and_stops_after_max_iters(raced):
    for runs in raced:
        run = runs["ADAM"]
        assert run.status == lp.Status.MAX_ITERS
        assert len(run.value) == 61
        assert np.isnan(run.step_size[:-1]).all()  # it has none


def test_a_run_ends_at_the_first_small_gradient(raced):
    converged = 0
    for runs in raced:
        for run in runs.values():
            assert np.all(run.grad_norm[:-1] >= 1e-2)
            assert (run.grad_norm[-1] < 1e-2) == (run.status == lp.Status.CONVERGED)
            converged += run.status == lp.Status.CONVERGED
    assert converged >= 3


def test_one_evaluation_for_each_iterate_except_in_searches(raced):
    for runs in raced:
        for name in (PI, "L-BFGS-B", "ADAM"):
            run = runs[name]
            np.testing.assert_array_equal(run.num_evals, np.arange(1, len(run.value) + 1))
        search = runs["L-BFGS-BTLS"].num_evals
        assert search[0] == 1
        assert np.diff(search).min() >= 1


def test_the_policys_step_sizes_are_recorded(raced):
    for runs in raced:
        run = runs[PI]
        assert run.step_size[-1] == 0  # none leaves the last
        t = run.step_size[:-1]
        assert np.all((t >= np.exp(-3) * (1 - 1e-12)) & (t <= 1 + 1e-12))
        assert t[0] == pytest.approx(1.0)  # the first direction is -g, whose cosine is 1
        assert t.min() < 0.99


def test_the_clock_only_goes_forward(raced):
    for runs in raced:
        for run in runs.values():
            assert run.seconds.shape == run.value.shape
            assert run.seconds[0] > 0
            assert np.all(np.diff(run.seconds) >= 0)


@pytest.fixture
def counted(tasks):
    """Two tasks, and a list that gets an entry for each evaluation as it is made."""
    counter = []

    class Counted:
        def init(self, key):
            return tasks.task.init(key)

        def loss(self, params, data):
            jax.debug.callback(lambda: counter.append(1))
            return tasks.task.loss(params, data)

    return dataclasses.replace(tasks, task=Counted()).take(2), counter


@pytest.mark.parametrize(("name", "warm_up"), [("L-BFGS-B", 0), ("L-BFGS-BTLS", 1)])
def test_evaluations_counted_on_the_host_agree(counted, name, warm_up):
    """Also those of warming up, a tenth of a run: here the turn at x0, with its search if any."""
    tasks, counter = counted
    results = race(tasks, [BASELINES[name]], max_iters=8, tol=0.0)
    jax.effects_barrier()
    first, second = (runs[name].num_evals for runs in results)
    assert len(counter) == first[warm_up] + first[-1] + second[-1]


@pytest.mark.parametrize(("max_iters", "warm_up"), [(0, 0), (2, 0), (30, 3), (300, 25)])
def test_warming_up_takes_a_tenth_of_a_run_and_at_most_25_iterations(counted, max_iters, warm_up):
    tasks, counter = counted
    race(tasks.take(1), [BASELINES["L-BFGS-B"]], max_iters=max_iters, tol=0.0)
    jax.effects_barrier()
    assert len(counter) == (warm_up + 1) + (max_iters + 1)


def test_on_run_is_told_of_every_run_in_order(tasks):
    seen = []
    race(
        tasks.take(2),
        [BASELINES["L-BFGS-B"], BASELINES["ADAM"]],
        max_iters=2,
        on_run=lambda index, name: seen.append((index, name)),
    )
    assert seen == [(i, name) for i in range(2) for name in ("L-BFGS-B", "ADAM")]


def test_a_run_that_leaves_the_numbers_is_ended_and_recorded():
    class Root:
        def init(self, key):
            return jnp.full(2, 3.0)

        def loss(self, params, data):
            return jnp.sum(jnp.sqrt(params + data))  # NaN where x < -data

    results = race(
        lp.TaskSet(Root(), np.ones((1, 2))),
        [
            *competitors("L-BFGS-B"),
            policy_competitor("guarded", lp.cosine_policy(), guard=lp.Guard()),
        ],
        max_iters=40,
    )
    run = results[0]["L-BFGS-B"]
    assert run.status == lp.Status.NON_FINITE
    assert np.isfinite(run.value[:-1]).all()
    assert not np.isfinite(run.value[-1])
    assert results[0]["guarded"].status != lp.Status.NON_FINITE


def test_names_must_differ(tasks):
    with pytest.raises(ValueError, match="must have distinct names, but got ADAM, ADAM"):
        race(tasks, [BASELINES["ADAM"], BASELINES["ADAM"]])


# --- races that are interrupted -------------------------------------------------------------------

NAMES = ("L-BFGS-B", "ADAM")


def race_on(tasks, folder, **options):
    return race(tasks, [BASELINES[name] for name in NAMES], max_iters=12, out=folder, **options)


@pytest.fixture(scope="module")
def whole(tasks):
    return race_on(tasks, None)


@pytest.fixture(scope="module")
def finished(tasks, tmp_path_factory):
    """The folder of a race that has ended; to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    race_on(tasks, folder)
    return folder


def test_an_interrupted_race_goes_on_as_if_it_had_not_been(tasks, whole, tmp_path):
    calls = []

    def interrupt(index, name):
        calls.append((index, name))
        if len(calls) == 3:  # the second task has one of its two runs
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race_on(tasks, tmp_path, on_run=interrupt)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert list(first) == ["task-0000.npz"]

    calls.clear()
    resumed = race_on(tasks, tmp_path, on_run=lambda *call: calls.append(call))
    assert_same(resumed, whole, but=("seconds",))
    assert len(calls) == 6  # a progress bar sees finished runs too
    assert (tmp_path / "task-0000.npz").read_bytes() == first["task-0000.npz"]

    again = race_on(tasks, tmp_path)  # nothing is left to do: even the clock's readings are kept
    assert_same(again, resumed)
    assert_same(load_results(tmp_path, NAMES), resumed)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"task-{i:04d}.npz" for i in range(3)
    ]


def test_a_finished_race_evaluates_nothing_again(tasks, finished):
    counter = []

    class Counted:
        def init(self, key):
            return tasks.task.init(key)

        def loss(self, params, data):
            counter.append(1)  # traced: not once
            return tasks.task.loss(params, data)

    results = race_on(dataclasses.replace(tasks, task=Counted()), finished)
    assert counter == []
    assert all(type(run.status) is int for runs in results for run in runs.values())


def test_more_competitors_than_before_run_the_task_again(tasks, whole, tmp_path):
    race(tasks.take(1), [BASELINES["ADAM"]], max_iters=12, out=tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no results of these competitors"):
        load_results(tmp_path, NAMES)
    assert_same(race_on(tasks.take(1), tmp_path), whole[:1], but=("seconds",))
    (runs,) = load_results(tmp_path, ["ADAM"])  # and a part of them can be read alone
    np.testing.assert_array_equal(runs["ADAM"].value, whole[0]["ADAM"].value)


@pytest.mark.parametrize("damage", ["empty", "half", "garbage"])
def test_a_damaged_file_is_run_again(tasks, whole, finished, tmp_path, damage):
    folder = shutil.copytree(finished, tmp_path / "copy")
    path = folder / "task-0001.npz"
    content = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "half": content[: len(content) // 2], "garbage": b"nonsense" * 9}[damage]
    )
    if damage == "empty":
        assert len(load_results(folder, NAMES)) == 2  # what is whole can be read all the same
    assert_same(race_on(tasks, folder), whole, but=("seconds",))
    assert len(load_results(folder, NAMES)) == 3


def test_no_flipped_byte_reaches_the_results(finished, tmp_path):
    """Every file is either read as it was written or counts as absent."""
    path = shutil.copy(finished / "task-0000.npz", tmp_path / "task-0000.npz")
    written = load_results(tmp_path, NAMES)
    content, refused = path.read_bytes(), 0
    for position in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            found = load_results(tmp_path, NAMES)
        except FileNotFoundError:
            refused += 1
        else:
            assert_same(found, written)
    assert refused > 20


def test_an_empty_folder_has_no_results(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no results"):
        load_results(tmp_path, ["ADAM"])
