"""The transformation inside optax's wrappers, and in the hands of other libraries."""

import functools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix
import pytest
from flax import nnx
from flax.training import train_state

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import trees

START = {"a": jnp.zeros(3), "b": jnp.zeros(())}


def f(p):
    return jnp.sum(jnp.array([1.0, 5.0, 20.0]) * (p["a"] - 1.0) ** 2) + (p["b"] - 2.0) ** 2


inject = optax.inject_hyperparams
static = functools.partial(inject, static_args=("memory_size", "policy"))
WRAPPED = {
    "plain": lp.lbfgs_pi,
    "inject_hyperparams": lambda: inject(lp.lbfgs_pi)(),
    "inject_hyperparams, max_step": lambda: inject(lp.lbfgs_pi)(max_step=0.5),
    "inject_hyperparams, memory": lambda: static(lp.lbfgs_pi)(memory_size=7),
    "inject_hyperparams, guard": lambda: inject(lp.lbfgs_pi)(guard=lp.Guard(decrease=1e-3)),
    "inject_hyperparams, name": lambda: inject(lp.lbfgs_pi)(policy="paper-mnist"),
    "inject_hyperparams, policy": lambda: static(lp.lbfgs_pi)(policy=lp.load_policy("paper-mnist")),
    "multi_transform": lambda: optax.multi_transform(
        {"q": lp.lbfgs_pi(), "s": optax.sgd(0.3)}, {"a": "q", "b": "s"}
    ),
    "two of them": lambda: optax.multi_transform(
        {"q": lp.lbfgs_pi(), "s": lp.lbfgs_pi("rule")}, {"a": "q", "b": "s"}
    ),
    "apply_if_finite": lambda: optax.apply_if_finite(lp.lbfgs_pi(), 3),
    "MultiSteps": lambda: optax.MultiSteps(lp.lbfgs_pi(), 2),
    "chain": lambda: optax.chain(optax.zero_nans(), lp.lbfgs_pi()),
    "named_chain": lambda: optax.named_chain(
        ("clip", optax.clip_by_global_norm(100.0)), ("q", lp.lbfgs_pi())
    ),
    "a schedule after": lambda: optax.chain(
        lp.lbfgs_pi(), optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, 100, 0.3))
    ),
    "a line search after": lambda: optax.chain(lp.lbfgs_pi(), optax.scale_by_zoom_linesearch(10)),
    "conditionally_transform": lambda: optax.conditionally_transform(
        lp.lbfgs_pi(), lambda step, **_: True
    ),
    "conditionally_mask": lambda: optax.conditionally_mask(lp.lbfgs_pi(), lambda step, **_: True),
    "flatten": lambda: optax.flatten(lp.lbfgs_pi()),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_in_optax_wrappers(name):
    tx = WRAPPED[name]()
    p, state = START, jax.jit(tx.init)(START)
    if not isinstance(tx, optax.MultiSteps):
        tx = optax.with_extra_args_support(tx)

    @jax.jit
    def step(p, state):
        value, grads = jax.value_and_grad(f)(p)
        updates, state = tx.update(grads, state, p, value=value, grad=grads, value_fn=f)
        return optax.apply_updates(p, updates), state

    structure = jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), state)
    for _ in range(150):
        p, state = step(p, state)
    assert f(p) < 1e-3
    assert structure == jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), state)


def test_frozen_leaves_by_masked():
    """What is not to move is left out before, not set to zero after: it is no part of d then."""
    tx = optax.masked(lp.lbfgs_pi(), {"a": True, "b": False})
    tx = optax.chain(tx, optax.masked(optax.set_to_zero(), {"a": False, "b": True}))
    p, state = START, tx.init(START)
    for _ in range(40):
        value, grads = jax.value_and_grad(f)(p)
        updates, state = tx.update(grads, state, p, value=value)
        p = optax.apply_updates(p, updates)
    np.testing.assert_allclose(p["a"], 1.0, atol=1e-4)
    assert p["b"] == 0.0


def test_what_cannot_be_injected_says_what_to_do():
    with pytest.raises(ValueError, match=r"memory_size must be known.*static_args"):
        jax.jit(inject(lp.lbfgs_pi)(memory_size=7).init)(START)
    with pytest.raises(TypeError, match="InnerProducts"):  # a schedule, for what optax knows
        inject(lp.lbfgs_pi)(policy=lp.load_policy("paper-mnist")).init(START)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_optax_contract_of_dtypes_and_shapes(dtype):
    """As optax's own tests ask of each optimizer: updates and state keep dtypes and shapes."""
    p = {"w": jnp.ones((3, 2), dtype), "b": (jnp.zeros(2, dtype), jnp.ones((), dtype))}
    g = jax.tree.map(lambda leaf: 0.1 * jnp.ones_like(leaf), p)
    tx = lp.lbfgs_pi()
    state = tx.init(p)
    for compiled in (False, True):
        update = jax.jit(tx.update) if compiled else tx.update
        updates, new = update(g, state, p)
        for a, b in ((updates, p), (new, state)):
            assert jax.tree.structure(a) == jax.tree.structure(b)
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
                assert (x.shape, x.dtype) == (y.shape, y.dtype)
    assert jax.eval_shape(tx.init, p) == jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state
    )


def test_empty_trees_and_leaves():
    for p in ({}, {"a": jnp.zeros((0, 3)), "b": jnp.ones(2)}):
        tx = lp.lbfgs_pi()
        state = tx.init(p)
        for _ in range(3):
            updates, state = tx.update(jax.tree.map(jnp.ones_like, p), state, p, value=1.0)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


# --- other libraries ------------------------------------------------------------------------------


def test_optimistix():
    solver = optimistix.OptaxMinimiser(lp.lbfgs_pi(), rtol=1e-8, atol=1e-8)
    found = optimistix.minimise(lambda p, _: f(p), solver, START, max_steps=200)
    np.testing.assert_allclose(found.value["a"], 1.0, atol=1e-5)


def test_jaxopt():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jaxopt

        solver = jaxopt.OptaxSolver(fun=f, opt=lp.lbfgs_pi(), maxiter=100, tol=1e-6)
        params, _ = solver.run(START)
    np.testing.assert_allclose(params["a"], 1.0, atol=1e-4)


def test_flax_train_state():
    state = train_state.TrainState.create(apply_fn=f, params=START, tx=lp.lbfgs_pi())

    @jax.jit
    def step(state):
        return state.apply_gradients(grads=jax.grad(f)(state.params))

    for _ in range(60):
        state = step(state)
    assert f(state.params) < 1e-6


def test_flax_nnx():
    model, x = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jnp.eye(3)
    target = jnp.arange(6.0).reshape(3, 2)
    optimizer = nnx.Optimizer(model, lp.lbfgs_pi(), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        value, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - target) ** 2))(model)
        optimizer.update(model, grads, value=value)
        return value

    for _ in range(60):
        value = step(model, optimizer)
    assert value < 1e-6


def test_equinox():
    x = jnp.linspace(-1.0, 1.0, 20)[:, None]
    model = eqx.nn.MLP(1, 1, 6, 1, activation=jnp.tanh, key=jax.random.key(0))
    params, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(params):
        return jnp.mean((jax.vmap(eqx.combine(params, rest))(x) - jnp.sin(3.0 * x)) ** 2)

    result = jax.jit(lambda p: lp.minimize(loss, p, max_iters=300))(params)
    assert isinstance(result.params, eqx.nn.MLP)
    assert float(result.value) < 1e-3
    for whole in (lambda: lp.minimize(lambda m: 0.0, model), lambda: lp.lbfgs_pi().init(model)):
        with pytest.raises(TypeError, match=r"leaf '.activation' is a .*: .* equinox.partition"):
            whole()


@pytest.mark.parametrize(
    ("leaf", "kind"), [("relu", "a str"), (abs, "a builtin_function"), (jnp.arange(2), "int")]
)
def test_leaves_that_are_no_parameters_are_named_with_their_path(leaf, kind):
    tree = {"layer": [jnp.zeros(2), {"x": leaf}]}
    for call in (lambda: lp.minimize(lambda p: 0.0, tree), lambda: lp.lbfgs_pi().init(tree)):
        with pytest.raises(TypeError, match=rf"\['layer'\]\[1\]\['x'\]' is {kind}"):
            call()


# --- arguments ------------------------------------------------------------------------------------


def bowl(x):
    return jnp.sum((x - 1.0) ** 2)


def test_numpy_numbers_are_numbers():
    result = lp.minimize(
        bowl, np.zeros(3), memory_size=np.int32(3), max_iters=np.int64(50), max_evals=np.uint8(9),
        tol=np.float32(1e-3), first_step=np.float64(0.5), max_step=np.float32(2.0),
    )  # fmt: skip
    assert lp.Status(int(result.status)) == lp.Status.CONVERGED
    assert result.trajectory.value.shape == (9,)


@pytest.mark.parametrize("value", [True, -1])
def test_what_is_no_count(value):
    with pytest.raises(ValueError, match="max_iters must be an integer of at least 0"):
        lp.minimize(bowl, jnp.zeros(2), max_iters=value)
    with pytest.raises(ValueError, match="memory_size must be an integer of at least 1"):
        lp.lbfgs_pi(memory_size=value)


@pytest.mark.parametrize("value", [2.5, None, "5", np.float64(3.0), jnp.zeros(2)])
def test_what_is_no_integer(value):
    with pytest.raises(ValueError, match="n must be an integer of at least 0"):
        trees.as_count("n", value, least=0)


def test_guards_can_be_traced_and_mapped_over():
    solve = lambda c: lp.minimize(bowl, jnp.zeros(2), guard=lp.Guard(decrease=c))  # noqa: E731
    assert jax.jit(solve)(1e-3).value < 1e-8
    assert np.all(jax.vmap(solve)(jnp.array([1e-4, 0.1])).value < 1e-8)


def test_minimize_can_be_compiled_with_static_and_traced_options():
    options = ("max_iters", "memory_size", "has_aux")
    solve = jax.jit(lp.minimize, static_argnums=0, static_argnames=options)
    assert solve(bowl, jnp.zeros(3), max_iters=40, memory_size=3, tol=1e-3).value < 1e-5
    policy = lp.load_policy("paper-mnist")
    assert solve(bowl, jnp.zeros(3), policy=policy).value < 1e-5
    by_policy = jax.jit(lp.minimize, static_argnums=0, static_argnames="policy")
    for static_policy in (policy, lp.load_policy("general"), lp.Rule(), "rule", None):
        assert by_policy(bowl, jnp.zeros(3), policy=static_policy).value < 1e-5


@pytest.mark.parametrize("name", ["paper-mnist", "general", "rule"])
def test_policies_are_hashable_and_comparable(name):
    policy, same = lp.load_policy(name), lp.load_policy(name)
    assert policy == same
    assert hash(policy) == hash(same)
    assert len({policy, same}) == 1
    other = jax.tree.map(lambda leaf: leaf + 1e-3, policy)
    assert policy != other
    assert policy != lp.load_policy("unit")
    assert policy != "rule"


def test_objectives_that_return_python_numbers_or_low_precision():
    assert lp.Status(int(lp.minimize(lambda x: 1.0, jnp.zeros(2)).status)) == lp.Status.CONVERGED
    half = lp.minimize(lambda x: bowl(x).astype(jnp.bfloat16), jnp.zeros(2))
    assert float(half.value) < 1e-3


def test_counts_stop_where_their_dtype_ends():
    tx = lp.scale_by_lbfgs_pi()
    state, most = tx.init(jnp.ones(2)), np.iinfo(np.int32).max
    full = {name: jnp.int32(most) for name in ("count", "num_retreats", "rejections")}
    for grads in (jnp.ones(2), jnp.full(2, jnp.nan)):
        _, new = tx.update(grads, state._replace(**full), jnp.ones(2))
        assert int(new.count) == int(new.num_retreats) == most
        assert int(new.rejections) in (0, most)
