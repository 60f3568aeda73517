"""Inner products of many pairs at once, in the form for one CPU and in that for several devices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jax_lbfgs_pi import linalg
from tests.marks import some_of

SIZES = [0, 1, 7, linalg.CHUNK - 1, linalg.CHUNK, linalg.CHUNK + 1, 3 * linalg.CHUNK + 5]


@pytest.fixture(params=["one CPU", "several devices"], autouse=True)
def form(request, monkeypatch):
    """The form is chosen when a function is traced, by the number of devices."""
    num_devices = 1 if request.param == "one CPU" else 8
    monkeypatch.setattr(jax, "device_count", lambda: num_devices)
    jax.clear_caches()
    yield request.param
    jax.clear_caches()


def vectors(size, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size).astype(dtype) for _ in range(4)]


def close(actual, expected, dtype=np.float64):
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(actual, expected, rtol=1e3 * eps, atol=1e3 * eps)


@pytest.mark.parametrize(
    ("size", "dtype"),
    some_of(itertools.product(SIZES, (np.float64, np.float32)), quick=(*range(0, 14, 2), 1, 9)),
)
def test_products_of_arrays(size, dtype):
    a, b, c, d = vectors(size, dtype)
    actual = jax.jit(lambda *x: linalg.vdots((x[0], x[1]), (x[2], x[3]), (x[0], x[0])))(a, b, c, d)
    assert actual.dtype == dtype
    exact = [np.dot(x.astype(float), y.astype(float)) for x, y in ((a, b), (c, d), (a, a))]
    scale = np.linalg.norm(a.astype(float)) ** 2 + 1
    close(actual / scale, np.array(exact) / scale, dtype)


def test_products_of_pytrees_of_mixed_shapes_and_dtypes():
    a, b, _, _ = vectors(5000)
    trees_ = [
        {
            "matrix": jnp.asarray(x[:4800].reshape(60, 80)),
            "single": jnp.asarray(x[4800:4999], jnp.float32),
            "scalar": jnp.asarray(x[4999], jnp.bfloat16),
        }
        for x in (a, b)
    ]
    flat = [
        np.concatenate([np.asarray(leaf, float).ravel() for leaf in jax.tree.leaves(tree)])
        for tree in trees_
    ]
    actual = linalg.vdots(tuple(trees_), (trees_[1], trees_[1]))
    assert actual.dtype == jnp.float64
    close(actual, [flat[0] @ flat[1], flat[1] @ flat[1]], np.float32)


def test_a_tree_without_leaves_has_products_of_zero():
    np.testing.assert_array_equal(linalg.vdots(({}, {}), ({}, {})), np.zeros(2))


@pytest.mark.parametrize("size", [7, linalg.CHUNK + 1])
def test_derivatives(size):
    """Of w₀ aᵀb + w₁ aᵀa: the gradient is known; so is a second derivative."""
    a, b, da, db = vectors(size)

    def f(a, b):
        return linalg.vdots((a, b), (a, a)) @ jnp.array([2.0, 3.0])

    grad_a, grad_b = jax.grad(f, argnums=(0, 1))(a, b)
    close(grad_a, 2 * b + 6 * a)
    close(grad_b, 2 * a)
    value, tangent = jax.jvp(f, (a, b), (da, db))
    close(value, 2 * a @ b + 3 * a @ a)
    close(tangent, 2 * (da @ b + a @ db) + 6 * a @ da)
    second = jax.jvp(jax.grad(f), (a, b), (da, np.zeros_like(db)))[1]
    close(second, 6 * da)


@pytest.mark.parametrize("size", [12, linalg.LONG - 1, linalg.LONG, linalg.LONG + 1])
@pytest.mark.parametrize("m", [1, 5, linalg.AT_ONCE + 3])
def test_products_of_rows(size, m):
    """More rows than one pass takes, too; a leaf of another shape and dtype beside the long one."""
    rng = np.random.default_rng(1)
    v = {"long": rng.normal(size=size), "matrix": rng.normal(size=(3, 4)).astype(np.float32)}
    stacks = [jax.tree.map(lambda x: rng.normal(size=(m, *x.shape)), v) for _ in range(2)]
    expected = [
        np.einsum("in,n->i", stack["long"], v["long"])
        + np.einsum("ijk,jk->i", stack["matrix"], v["matrix"])
        for stack in stacks
    ]
    v, stacks = jax.tree.map(jnp.asarray, (v, tuple(stacks)))
    actual = jax.jit(linalg.stacked_vdots, static_argnums=2)(stacks, v, m)
    np.testing.assert_allclose(actual, np.stack(expected), rtol=1e-11, atol=1e-10)
    assert actual.shape == (2, m)


@pytest.mark.parametrize("size", [12, linalg.LONG])
def test_derivatives_of_products_of_rows(size):
    rng = np.random.default_rng(2)
    s, y, v = rng.normal(size=(3, size)), rng.normal(size=(3, size)), rng.normal(size=size)
    weights = rng.normal(size=(2, 3))

    def f(s, y, v):
        return jnp.sum(weights * linalg.stacked_vdots((s, y), v, 3))

    grads = jax.grad(f, argnums=(0, 1, 2))(*map(jnp.asarray, (s, y, v)))
    close(grads[0], weights[0][:, None] * v)
    close(grads[1], weights[1][:, None] * v)
    close(grads[2], weights[0] @ s + weights[1] @ y)
    batched = jax.vmap(lambda v: linalg.stacked_vdots((jnp.asarray(s), jnp.asarray(y)), v, 3))
    both = batched(jnp.stack([v, 2 * v]))
    np.testing.assert_allclose(both[1], 2 * np.stack([s @ v, y @ v]), rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(both[0], both[1] / 2, rtol=1e-11, atol=1e-10)


def test_rows_of_a_tree_without_leaves():
    np.testing.assert_array_equal(linalg.stacked_vdots(({}, {}), {}, 4), np.zeros((2, 4)))


def test_batches():
    a, b, _, _ = vectors((3, linalg.CHUNK + 2))
    actual = jax.vmap(lambda x, y: linalg.vdots((x, y), (y, y)))(a, b)
    close(actual, np.stack([np.sum(a * b, 1), np.sum(b * b, 1)], 1))


def test_long_sums_keep_their_digits_in_float32(form):
    """Equal numbers, whose rounding errors add up: one running sum of 2²² keeps no three digits."""
    x = jnp.full(2**22, 0.1, jnp.float32)
    square = x.size * float(x[0]) ** 2
    np.testing.assert_allclose(linalg.vdots((x, x), (x, 2 * x)) / square, [1.0, 2.0], rtol=3e-6)
    if form == "several devices":
        return  # there rows are left to XLA's product of a matrix and a vector
    rows = jnp.stack([x, 2 * x])
    of_rows = linalg.stacked_vdots((rows, 3 * rows), x, 2) / square
    np.testing.assert_allclose(of_rows, [[1.0, 2.0], [3.0, 6.0]], rtol=3e-6)


def test_explicit_mesh_axes_on_one_device():
    """Sharded along what is not the first axis; longer than what takes the other form."""
    rng = np.random.default_rng(3)
    values, rows = rng.normal(size=(300, 300)), rng.normal(size=(2, 300, 300))
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        v = jax.device_put(values, NamedSharding(mesh, PartitionSpec(None, "x")))
        stack = jax.device_put(rows, NamedSharding(mesh, PartitionSpec(None, None, "x")))
        products = jax.jit(linalg.vdots)((v, v), (v, 2 * v))
        of_rows = jax.jit(linalg.stacked_vdots, static_argnums=2)((stack, stack), v, 2)
    close(products / np.sum(values**2), [1.0, 2.0])
    expected = np.einsum("ijk,jk->i", rows, values)
    np.testing.assert_allclose(of_rows, [expected, expected], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [7, linalg.SHORT, linalg.SHORT + 1])
@pytest.mark.parametrize("batched", ["all", "the base", "the stacks"])
def test_combinations_in_a_batch(size, batched):
    """Against plain sums; with derivatives, as meta-training maps and differentiates them."""
    rng = np.random.default_rng(0)
    num, m = 3, 4
    scale, base = rng.normal(size=num), rng.normal(size=(num, size))
    c, stack = rng.normal(size=(num, m)), rng.normal(size=(num, m, size))
    axes = {
        "all": (0, 0, (0, 0)), "the base": (None, 0, (None, None)), "the stacks": (0, None, (0, 0))
    }[batched]  # fmt: skip

    def part(x, axis):
        return jnp.asarray(x if axis == 0 else x[0])

    args = (part(scale, axes[0]), part(base, axes[1]), tuple(map(part, (c, stack), axes[2])))
    full = [x if a == 0 else np.broadcast_to(x[0], x.shape) for x, a in
            ((scale, axes[0]), (base, axes[1]), (c, axes[2][0]), (stack, axes[2][1]))]  # fmt: skip
    expected = full[0][:, None] * full[1] + np.einsum("bi,bin->bn", full[2], full[3])
    close(jax.vmap(linalg.weighted_sum, axes)(*args), expected)

    def total(scale, base, term):
        return jnp.sum(jnp.sin(linalg.weighted_sum(scale, base, term)))

    grads = jax.vmap(jax.grad(total, argnums=(0, 1, 2)), axes)(*args)
    slope = np.cos(expected)
    close(grads[0], np.sum(slope * full[1], 1))
    close(grads[1], full[0][:, None] * slope)
    close(grads[2][0], np.einsum("bn,bin->bi", slope, full[3]))
    close(grads[2][1], np.einsum("bn,bi->bin", slope, full[2]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_norm_of_numbers_whose_squares_are_out_of_range(dtype):
    """Alone and in a batch, where both branches run, up to the greatest numbers there are."""
    greatest = float(np.finfo(dtype).max)
    scales = np.array([0.5 * greatest, greatest**0.7, 1.0, greatest**-0.7])
    vectors_ = np.multiply.outer(scales, [1.0, -0.3, 0.1]).astype(dtype)
    expected = scales * np.linalg.norm([1.0, -0.3, 0.1])
    in_a_batch = jax.jit(jax.vmap(linalg.norm))(vectors_)
    one_by_one = [jax.jit(linalg.norm)(v) for v in vectors_]
    for actual in (in_a_batch, one_by_one):
        np.testing.assert_allclose(np.asarray(actual, float) / expected, 1.0, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [-0.45, -0.2, 0.0, 0.2, 0.45])
def test_a_symmetric_change_by_vectors_of_any_two_lengths(power, dtype):
    """`A + a bᵀ + b aᵀ` is of the size of the products, however far apart a and b are."""
    rng = np.random.default_rng(0)
    scale = float(np.finfo(dtype).max) ** power
    a, b = (rng.normal(size=5) * x for x in (scale, 1.0 / scale))
    matrix = np.eye(5, dtype=dtype)

    @jax.jit
    def change(matrix, a, b):
        one, zero = jnp.ones((), matrix.dtype), jnp.zeros((), matrix.dtype)
        return linalg.symmetric_update(matrix, linalg.Rows(), one, zero, *linalg.two_terms(a, b))

    actual = change(matrix, a.astype(dtype), b.astype(dtype))
    expected = np.eye(5) + np.outer(a, b) + np.outer(b, a)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(actual, actual.T)
