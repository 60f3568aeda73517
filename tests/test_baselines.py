import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.baselines import baselines, lbfgs_backtracking, policy_competitor
from jax_lbfgs_pi.loop import make_loop
from jax_lbfgs_pi.tasks import logistic_tasks
from tests import oracles

BASELINES = baselines()

X0 = np.array([-1.2, 1.0, -0.5, 0.8])


def run(tx, fun, x0, steps, tol=0.0):
    """The package's own loop, to its end: the last state and the trajectory."""
    loop = make_loop(tx, fun, max_iters=steps, stopping=lp.Stopping(gtol=tol, patience=None))
    end = jax.jit(lambda x: jax.lax.while_loop(loop.running, loop.body, loop.init(x)))(x0)
    return end, jax.tree.map(lambda a: np.asarray(a)[: int(end.num_iters) + 1], end.trajectory)


def in_numpy(fun):
    """F and its gradient, of and to NumPy arrays."""
    evaluate = jax.jit(jax.value_and_grad(fun))
    return lambda x: tuple(np.asarray(a) for a in evaluate(jnp.asarray(x)))


def logistic():
    tasks = logistic_tasks(1, dim=12, num_samples=40, seed=3)
    data, x0 = tasks[0]
    return lambda x: tasks.task.loss(x, data), np.asarray(x0)


# --- first-order methods --------------------------------------------------------------------------


def plain_adam(value_and_grad, x, steps):
    """PyTorch's torch.optim.Adam with lr 0.03."""
    m, v, xs = np.zeros_like(x), np.zeros_like(x), [x]
    for k in range(1, steps + 1):
        _, g = value_and_grad(x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x = x - 0.03 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
        xs.append(x)
    return xs


def plain_rmsprop(value_and_grad, x, steps):
    """PyTorch's torch.optim.RMSprop with lr 0.01."""
    v, xs = np.zeros_like(x), [x]
    for _ in range(steps):
        _, g = value_and_grad(x)
        v = 0.99 * v + 0.01 * g * g
        x = x - 0.01 * g / (np.sqrt(v) + 1e-8)
        xs.append(x)
    return xs


@pytest.mark.parametrize(("name", "plain"), [("ADAM", plain_adam), ("RMSProp", plain_rmsprop)])
@pytest.mark.parametrize("tiny", [1.0, 1e-8])
def test_first_order_methods_equal_pytorchs(name, plain, tiny):
    """With tiny gradients too, where it matters on which side of the root ε stands."""
    fun = lambda x: tiny * oracles.rosenbrock(x)  # noqa: E731
    value_and_grad = in_numpy(fun)
    xs = plain(value_and_grad, X0, 40)
    end, trajectory = run(BASELINES[name].make(), fun, jnp.array(X0), 40)
    # The loop's last body leaves `params` one step further: it is the step that is not counted.
    np.testing.assert_allclose(
        trajectory.value, [value_and_grad(x)[0] for x in xs], rtol=1e-9, atol=0
    )
    assert int(end.num_evals) == 41
    tx = BASELINES[name].make()
    x, state = jnp.array(X0), tx.init(jnp.array(X0))
    for expected in xs[1:]:
        updates, state = tx.update(jax.grad(fun)(x), state, x)
        x = optax.apply_updates(x, updates)
        np.testing.assert_allclose(x, expected, rtol=1e-9)


# --- L-BFGS with a constant step ------------------------------------------------------------------


def plain_constant(value_and_grad, x, steps, t=1.0, m=5):
    f, g = value_and_grad(x)
    xs, fs, gs, pairs = [x], [f], [g], []
    for _ in range(steps):
        x_next = x + t * oracles.two_loop(pairs, g)
        f, g_next = value_and_grad(x_next)
        pairs = [*pairs, (x_next - x, g_next - g)][-m:]
        x, g = x_next, g_next
        xs.append(x)
        fs.append(f)
        gs.append(g)
    return xs, fs, gs


@pytest.mark.parametrize("objective", ["logistic", "rosenbrock"])
def test_constant_step_lbfgs_equals_the_two_loop_recursion(objective):
    fun, x0 = logistic() if objective == "logistic" else (oracles.rosenbrock, X0)
    _, fs, gs = plain_constant(in_numpy(fun), x0, 25)
    end, trajectory = run(BASELINES["L-BFGS-B"].make(), fun, jnp.array(x0), 25)
    np.testing.assert_allclose(trajectory.value, fs, rtol=1e-6)
    np.testing.assert_allclose(trajectory.grad_norm, np.linalg.norm(gs, axis=1), rtol=1e-5)
    np.testing.assert_allclose(trajectory.step_size[:-1], 1.0, rtol=1e-14)
    np.testing.assert_array_equal(trajectory.num_evals, np.arange(1, 27))
    assert int(end.num_evals) == 26


# --- L-BFGS with backtracking ---------------------------------------------------------------------


def plain_backtracking(value_and_grad, x, steps, m=5, c1=0.25, c2=0.5, max_halvings=40):
    """Values, evaluations until each was known, and step sizes."""
    evals = [1]
    f, g = value_and_grad(x)
    fs, ts, pairs = [f], [], []
    for _ in range(steps):
        d = oracles.two_loop(pairs, g)
        t, trials = 1.0, 1
        f_next, g_next = value_and_grad(x + d)
        while not f_next <= f + c1 * t * (g @ d) and trials <= max_halvings:
            t, trials = c2 * t, trials + 1
            f_next, g_next = value_and_grad(x + t * d)
        pairs = [*pairs, (t * d, g_next - g)][-m:]
        x, f, g = x + t * d, f_next, g_next
        fs.append(f)
        ts.append(t)
        evals.append(evals[-1] + trials)
    return np.array(fs), np.array(evals), np.array(ts)


@pytest.fixture(scope="module")
def rosenbrock_search():
    fs, evals, ts = plain_backtracking(in_numpy(oracles.rosenbrock), X0, 30)
    assert set(np.diff(evals)) > {1, 2}  # the first step of all is long, and some others are
    _, trajectory = run(lbfgs_backtracking(), oracles.rosenbrock, jnp.array(X0), 30)
    return fs, evals, ts, trajectory


def test_backtracking_takes_the_plain_loops_steps(rosenbrock_search):
    fs, _, _, trajectory = rosenbrock_search
    np.testing.assert_allclose(trajectory.value, fs, rtol=1e-6)
    assert np.all(np.diff(trajectory.value) < 0)


def test_backtracking_counts_the_plain_loops_evaluations(rosenbrock_search):
    _, evals, _, trajectory = rosenbrock_search
    np.testing.assert_array_equal(trajectory.num_evals, evals)


def test_backtracking_reports_the_plain_loops_step_sizes(rosenbrock_search):
    _, _, ts, trajectory = rosenbrock_search
    np.testing.assert_array_equal(trajectory.step_size[:-1], ts)
    assert trajectory.step_size[-1] == 0  # none leaves the last


def test_every_search_starts_from_one(rosenbrock_search):
    """Not from where the last one ended: t is one again after steps that were cut."""
    _, evals, ts, _ = rosenbrock_search
    assert np.any((ts[:-1] < 1) & (ts[1:] == 1))
    trials = np.diff(evals)
    np.testing.assert_array_equal(ts, 0.5 ** (trials - 1))


def test_backtracking_leaves_forbidden_regions():
    """X - ln x is NaN for x < 0, where the first unit step would land."""
    fun = lambda x: jnp.sum(x - jnp.log(x))  # noqa: E731
    x0 = np.array([0.05, 3.0])
    fs, evals, _ = plain_backtracking(in_numpy(fun), x0, 12)
    end, trajectory = run(lbfgs_backtracking(), fun, jnp.array(x0), 12)
    assert int(end.status) == lp.Status.MAX_ITERS
    np.testing.assert_allclose(trajectory.value, fs, rtol=1e-9)
    np.testing.assert_array_equal(trajectory.num_evals, evals)


def test_backtracking_gives_up_after_forty_halvings():
    """A gradient that lies: no step along it decreases f enough."""
    evaluations = []

    @jax.custom_jvp
    def fun(x):
        jax.debug.callback(lambda: evaluations.append(1))
        return jnp.sum(x)

    fun.defjvp(lambda x, dx: (fun(*x), -jnp.sum(dx[0])))
    tx = lbfgs_backtracking()
    x = jnp.zeros(2)
    updates, _ = tx.update(
        -jnp.ones(2), tx.init(x), x, value=jnp.array(0.0), grad=-jnp.ones(2), value_fn=fun
    )
    jax.effects_barrier()
    assert len(evaluations) == 41
    np.testing.assert_allclose(updates, 0.5**40, rtol=1e-12)


@pytest.mark.parametrize(("c1", "c2"), [(0.25, 0.5), (0.5, 0.75), (0.75, 0.25)])
def test_backtracking_parameters(c1, c2):
    fs, evals, _ = plain_backtracking(in_numpy(oracles.rosenbrock), X0, 15, c1=c1, c2=c2)
    _, trajectory = run(lbfgs_backtracking(c1=c1, c2=c2), oracles.rosenbrock, jnp.array(X0), 15)
    np.testing.assert_allclose(trajectory.value, fs, rtol=1e-6)
    np.testing.assert_array_equal(trajectory.num_evals, evals)


# --- evaluations that are executed ----------------------------------------------------------------


def counted_rosenbrock():
    evaluations = []

    def fun(x):
        jax.debug.callback(lambda: evaluations.append(1))
        return oracles.rosenbrock(x)

    return fun, evaluations


@pytest.mark.parametrize("name", BASELINES)
def test_as_many_evaluations_are_executed_as_are_counted(name):
    fun, evaluations = counted_rosenbrock()
    end, trajectory = run(BASELINES[name].make(), fun, jnp.array(X0), 30)
    jax.effects_barrier()
    searches = name in ("L-BFGS-BTLS", "optax.lbfgs")
    assert (trajectory.num_evals.max() > 31) == searches  # some search took a second trial
    assert int(end.num_evals) == trajectory.num_evals[-1]
    assert len(evaluations) == int(end.num_evals)


# --- what users would pick today ------------------------------------------------------------------


def scipys_minimum(fun, x0):
    return scipy.optimize.minimize(
        in_numpy(fun), x0, jac=True, method="L-BFGS-B",
        options={"ftol": 0.0, "gtol": 1e-10, "maxiter": 1000},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["optax.lbfgs", "L-BFGS-BTLS"])
@pytest.mark.parametrize("objective", ["logistic", "rosenbrock"])
def test_line_searches_reach_scipys_minimum(name, objective):
    fun, x0 = logistic() if objective == "logistic" else (oracles.rosenbrock, X0)
    reference = scipys_minimum(fun, x0)
    end, _ = run(BASELINES[name].make(), fun, jnp.array(x0), 300, tol=1e-7)
    assert int(end.status) == lp.Status.CONVERGED
    assert float(end.best.value) < reference.fun + 1e-12
    np.testing.assert_allclose(end.best.params, reference.x, atol=1e-4)


def test_prodigy_gets_most_of_the_way():
    fun, x0 = logistic()
    reference = scipys_minimum(fun, x0)
    start = float(fun(jnp.array(x0)))
    end, _ = run(BASELINES["Prodigy"].make(), fun, jnp.array(x0), 300)
    assert float(end.best.value) - reference.fun < 0.1 * (start - reference.fun)


# --- competitors ----------------------------------------------------------------------------------


def test_names_are_the_tables():
    assert list(BASELINES) == [
        "ADAM", "RMSProp", "L-BFGS-B", "L-BFGS-BTLS", "optax.lbfgs", "Prodigy", "SciPy",
    ]  # fmt: skip
    assert all(name == competitor.name for name, competitor in BASELINES.items())
    assert not any(competitor.retreats for competitor in BASELINES.values())


@pytest.mark.parametrize("guard", [None, lp.Guard()])
def test_a_policy_as_competitor_is_lbfgs_pi(guard):
    fun, x0 = logistic()
    policy = lp.cosine_policy()
    competitor = policy_competitor("π", policy, guard=guard)
    assert (competitor.name, competitor.retreats) == ("π", guard is not None)
    loop = make_loop(
        competitor.make(),
        fun,
        max_iters=20,
        stopping=lp.Stopping(gtol=0.0, patience=None),
        retreats=competitor.retreats,
    )
    end = jax.lax.while_loop(loop.running, loop.body, loop.init(jnp.array(x0)))
    result = lp.minimize(
        fun, jnp.array(x0), policy=policy, memory_size=5, max_iters=20, tol=0.0, guard=guard
    )
    np.testing.assert_allclose(end.trajectory.value, result.trajectory.value, rtol=1e-12)
