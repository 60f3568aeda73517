"""Inner products of many pairs at once, in the form for one CPU and in that for several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_lbfgs_pi import trees

SIZES = [0, 1, 7, trees.CHUNK - 1, trees.CHUNK, trees.CHUNK + 1, 3 * trees.CHUNK + 5]


@pytest.fixture(params=["one CPU", "several devices"], autouse=True)
def form(request, monkeypatch):
    """The form is chosen when a function is traced, by the number of devices."""
    num_devices = 1 if request.param == "one CPU" else 8
    monkeypatch.setattr(jax, "device_count", lambda: num_devices)
    jax.clear_caches()


def vectors(size, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size).astype(dtype) for _ in range(4)]


def close(actual, expected, dtype=np.float64):
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(actual, expected, rtol=1e3 * eps, atol=1e3 * eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_products_of_arrays(size, dtype):
    a, b, c, d = vectors(size, dtype)
    actual = jax.jit(lambda *x: trees.vdots((x[0], x[1]), (x[2], x[3]), (x[0], x[0])))(a, b, c, d)
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
    actual = trees.vdots(tuple(trees_), (trees_[1], trees_[1]))
    assert actual.dtype == jnp.float64
    close(actual, [flat[0] @ flat[1], flat[1] @ flat[1]], np.float32)


def test_a_tree_without_leaves_has_products_of_zero():
    np.testing.assert_array_equal(trees.vdots(({}, {}), ({}, {})), np.zeros(2))


@pytest.mark.parametrize("size", [7, trees.CHUNK + 1])
def test_derivatives(size):
    """Of w₀ aᵀb + w₁ aᵀa: the gradient is known; so is a second derivative."""
    a, b, da, db = vectors(size)

    def f(a, b):
        return trees.vdots((a, b), (a, a)) @ jnp.array([2.0, 3.0])

    grad_a, grad_b = jax.grad(f, argnums=(0, 1))(a, b)
    close(grad_a, 2 * b + 6 * a)
    close(grad_b, 2 * a)
    value, tangent = jax.jvp(f, (a, b), (da, db))
    close(value, 2 * a @ b + 3 * a @ a)
    close(tangent, 2 * (da @ b + a @ db) + 6 * a @ da)
    second = jax.jvp(jax.grad(f), (a, b), (da, np.zeros_like(db)))[1]
    close(second, 6 * da)


def test_batches():
    a, b, _, _ = vectors((3, trees.CHUNK + 2))
    actual = jax.vmap(lambda x, y: trees.vdots((x, y), (y, y)))(a, b)
    close(actual, np.stack([np.sum(a * b, 1), np.sum(b * b, 1)], 1))


def test_long_sums_keep_their_digits_in_float32():
    """Ones, 2²⁵ of them: a single running sum would stop at 2²⁴."""
    ones = jnp.ones(2**25, jnp.float32)
    assert trees.vdots((ones, ones))[0] == 2**25


@pytest.mark.parametrize("size", [7, trees.SHORT, trees.SHORT + 1])
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
    close(jax.vmap(trees.weighted_sum, axes)(*args), expected)

    def total(scale, base, term):
        return jnp.sum(jnp.sin(trees.weighted_sum(scale, base, term)))

    grads = jax.vmap(jax.grad(total, argnums=(0, 1, 2)), axes)(*args)
    slope = np.cos(expected)
    close(grads[0], np.sum(slope * full[1], 1))
    close(grads[1], full[0][:, None] * slope)
    close(grads[2][0], np.einsum("bn,bin->bi", slope, full[3]))
    close(grads[2][1], np.einsum("bn,bi->bin", slope, full[2]))
