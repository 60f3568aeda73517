"""What a step costs: memory, passes over it, evaluations, compilations; and at what precision."""

import logging
import re

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.tasks import quadratic_tasks
from jax_lbfgs_pi.training.outer import make_outer_step
from tests import oracles
from tests.counted import CountedTask
from tests.marks import some_of

N = 637_600
TREES = {
    "array": jnp.zeros(N),
    "tree": [jnp.zeros((784, 400)), *[jnp.zeros((400, 400))] * 2, jnp.zeros((400, 10))],
}


def vectors_beside_the_state(function, donated, *args):
    """What a compiled function needs beside its arguments, in vectors of N numbers."""
    analysis = jax.jit(function, donate_argnums=donated).lower(*args).compile().memory_analysis()
    fresh = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return (analysis.temp_size_in_bytes + fresh) / (8 * N)


@pytest.mark.parametrize("m", some_of([3, 10], quick=(0,)))
@pytest.mark.parametrize("guard", some_of([lp.Guard(), None], quick=(0,)))
@pytest.mark.parametrize("params", some_of(TREES.values(), quick=(len(TREES) - 1,)), ids=TREES)
def test_an_update_writes_in_place_alone_and_in_a_loop(params, guard, m):
    """Beside the state the update alone, whatever m: no pair is stored, no history copied."""
    tx = lp.lbfgs_pi(lp.init_policy(jax.random.key(0)), memory_size=m, guard=guard)
    state = tx.init(params)

    def loop(x, state):
        def turn(carry, _):
            x, state = carry
            grads = jax.tree.map(lambda leaf: 2 * leaf, x)
            updates, state = tx.update(grads, state, x)
            return (optax.apply_updates(x, updates), state), None

        return jax.lax.scan(turn, (x, state), length=9)[0]

    limit = 1.1 if jax.default_backend() == "cpu" else 3.1  # elsewhere, what we promise
    assert vectors_beside_the_state(tx.update, (0, 1), params, state, params) < limit
    # JAX gives donated buffers to outputs in their order, so without the gradient's the update
    # takes that of the last point, which the way back still has to read.
    kept = 1 if guard is None else 2
    assert vectors_beside_the_state(tx.update, (1,), params, state, params) < limit + kept
    more = 1 if jax.__version_info__ >= (0, 11) else 0  # later versions keep x of the turn before
    assert vectors_beside_the_state(loop, (0, 1), params, state) < limit + more


def test_state_is_2m_plus_2_vectors_and_little_else():
    for m in (1, 5, 20):
        state = lp.lbfgs_pi(memory_size=m).init(TREES["tree"])
        size = sum(leaf.size for leaf in jax.tree.leaves(state))
        assert (2 * m + 2) * N <= size <= (2 * m + 2) * N + 2 * m * m + 4 * m + 50


def test_products_that_decide_a_step_have_the_highest_precision():
    """As XLA is told, so that no GPU's TF32 and no TPU's bfloat16 touches them."""
    # Of longer leaves, a CPU sums products without a dot.
    params = [jnp.zeros(shape, jnp.float32) for shape in ((784, 20), (20, 20), (20, 10))]
    tx = lp.lbfgs_pi(lp.init_policy(jax.random.key(0)))
    text = jax.jit(tx.update).lower(params, tx.init(params), params).as_text()
    products = re.findall(r"stablehlo\.dot_general.*", text)
    assert len(products) > 10
    assert all("precision = [HIGHEST, HIGHEST]" in product for product in products)
    assert "convolution" not in text


def test_vmapped_minimize_evaluates_once_an_iteration_for_all_problems():
    calls = []

    def count(x):
        calls.append(x.shape)
        return np.zeros(x.shape[:-1])

    def counted(x):
        shape = jax.ShapeDtypeStruct((), x.dtype)
        zero = jax.pure_callback(count, shape, jax.lax.stop_gradient(x), vmap_method="expand_dims")
        return oracles.rosenbrock(x) + jax.lax.stop_gradient(zero)

    starts = jax.random.normal(jax.random.key(0), (16, 4))
    solve = jax.jit(jax.vmap(lambda x: lp.minimize(counted, x, max_iters=60, tol=1e-3)))
    result = jax.block_until_ready(solve(starts))
    assert len(calls) == int(jnp.max(result.num_evals))
    assert int(jnp.min(result.num_evals)) < int(jnp.max(result.num_evals))
    assert set(calls) == {(16, 4)}


def test_one_compilation_for_all_iterations_tasks_and_policies():
    task = CountedTask()
    traces = task.traces

    @jax.jit
    def solve(policy, data, x0):
        return lp.minimize(lambda x: task.loss(x, data), x0, policy=policy, max_iters=5)

    rng = np.random.default_rng(0)
    for seed in range(3):
        policy = lp.init_policy(jax.random.key(seed))
        solve(policy, jnp.array(rng.uniform(1, 2, 4)), jnp.array(rng.normal(size=4)))
        if seed == 0:
            first = len(traces)
    assert len(traces) == first

    tasks = lp.TaskSet(task, jnp.array(rng.uniform(1, 2, (5, 4))))
    config = lp.get_preset("fast", num_epochs=1, unroll_length=3, tasks_per_step=1)
    counts = []
    lp.meta_train(tasks, config, on_step=lambda record: counts.append(len(traces)))
    assert len(counts) == 10  # 5 tasks, 2 unrolls each
    assert counts[-1] == counts[0]


def test_eager_updates_compile_nothing_after_the_first(caplog):
    tx, x = lp.lbfgs_pi(memory_size=3), jnp.ones(6)
    state = tx.init(x)

    def turn(x, state):
        updates, state = tx.update(2 * x, state, x, value=x @ x)
        return x + updates, state

    for _ in range(3):
        x, state = turn(x, state)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.jit(lambda x: x + 3)(x)
        assert any("Compiling" in message for message in caplog.messages)
        caplog.clear()
        turn(x, state)
        assert not [message for message in caplog.messages if "Compiling" in message]


def quadratic(x, data):
    return 0.5 * x @ (data @ x)


def logistic(x, data):
    return jnp.mean(jnp.log1p(jnp.exp(-(data @ x)))) + 1e-2 * x @ x


def rosenbrock(x, data):
    return data * oracles.rosenbrock(x)


def small_problems():
    """Fifty problems in five batches, of sizes 2 to 30, from easy to badly scaled."""
    rng = np.random.default_rng(7)
    matrices = []
    for i in range(16):
        rotation = np.linalg.qr(rng.normal(size=(20, 20)))[0]
        scale = 10.0 ** (i % 6 - 3) * np.logspace(0, rng.uniform(0, 3), 20)
        matrices.append(rotation @ np.diag(scale) @ rotation.T)
    yield quadratic, np.array(matrices), rng.normal(size=(16, 20))
    yield (
        logistic,
        rng.normal(size=(16, 60, 15)) * np.exp(rng.normal(size=15)),
        rng.normal(size=(16, 15)),
    )
    for n in (2, 10, 30):
        yield rosenbrock, 10.0 ** rng.uniform(-3, 3, size=6), rng.normal(size=(6, n))


@pytest.mark.slow
def test_float32_goes_where_float64_goes():
    """To a thousandth of the first gradient, on every one of fifty problems where float64 gets."""
    reached = {jnp.float32: [], jnp.float64: []}
    for fun, data, x0 in small_problems():

        @jax.jit
        @jax.vmap
        def solve(x, data, fun=fun):
            tol = 1e-3 * jnp.linalg.norm(jax.grad(fun)(x, data))
            result = lp.minimize(lambda x: fun(x, data), x, max_iters=1000, tol=tol)
            # The status is the run's own word: ask the gradient at the result as well.
            return result.status, jnp.linalg.norm(jax.grad(fun)(result.params, data)) < 2 * tol

        for dtype, flags in reached.items():
            status, small = solve(jnp.asarray(x0, dtype), jnp.asarray(data, dtype))
            flags.extend((status == lp.Status.CONVERGED) & small)
    assert len(reached[jnp.float64]) == 50
    assert sum(map(bool, reached[jnp.float64])) >= 45
    for in32, in64 in zip(*reached.values(), strict=True):
        assert in32 or not in64


def solver_calls(jaxpr, in_scan=False):
    """For each call that leaves JAX, whether a scan makes it."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("ffi_call", "pure_callback", "io_callback"):
            yield in_scan
        inside = in_scan or eqn.primitive.name == "scan"
        for sub in jax.extend.core.jaxprs_in_params(eqn.params):
            yield from solver_calls(sub, inside)


def test_cvx_problems_of_an_unroll_are_solved_in_one_batch():
    """Not one by one inside the scan, where each would cost a millisecond."""
    pytest.importorskip("moreau", reason="needs the extra 'cvx'")
    tasks = quadratic_tasks(1, dim=4)
    config = lp.get_preset("paper", unroll_length=7)
    policy = lp.init_policy(jax.random.key(0), clip_layer="cvx")
    step = make_outer_step(tasks.task, policy.network, config)
    data, x0 = tasks.stack([0])
    inner = step.start(data, x0)
    args = (step.init(policy.params), inner, data, np.ones(1, bool), inner.value)
    calls = list(solver_calls(jax.make_jaxpr(step.step)(*args).jaxpr))
    assert calls
    assert not any(calls)
