import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_lbfgs_pi.clip import (
    CLIP_LAYERS,
    clip_autodiff,
    clip_cvx,
    clip_implicit,
    clip_straight_through,
    get_clip_layer,
)
from tests.marks import some_of

TAU_MIN, TAU_MAX = -3.0, 0.0


@pytest.fixture
def cvx():
    pytest.importorskip("cvxpylayers", reason="needs the extra 'cvx'")
    pytest.importorskip("moreau", reason="needs the extra 'cvx'")


def vectors(scale=1.0, num=60, seed=0):
    """u1, u2 whose σ lies on both sides of both bounds, never within 0.01 of one."""
    rng = np.random.default_rng(seed)
    u2 = rng.normal(size=(num, 6))
    sigma = rng.uniform(-4.5, 1.5, size=num)
    for bound in (TAU_MIN, TAU_MAX):
        near = np.abs(sigma - bound) < 0.01
        sigma[near] += 0.05
    free = rng.normal(size=(num, 6))
    free -= u2 * (np.sum(free * u2, 1) / np.sum(u2 * u2, 1))[:, None]
    u1 = sigma[:, None] * u2 + free
    return scale * jnp.array(u1), scale * jnp.array(u2), sigma


@pytest.mark.parametrize("layer", [clip_autodiff, clip_implicit])
@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1.0, 1e3, 1e200])
def test_closed_form_values_and_gradients(layer, scale):
    u1, u2, sigma = vectors(scale)
    value, (d1, d2) = jax.vmap(
        jax.value_and_grad(lambda a, b: layer(a, b, TAU_MIN, TAU_MAX), argnums=(0, 1))
    )(u1, u2)
    np.testing.assert_allclose(value, np.clip(sigma, TAU_MIN, TAU_MAX), rtol=1e-9, atol=1e-12)
    w1, w2 = np.asarray(u1) / scale, np.asarray(u2) / scale
    b = np.sum(w2 * w2, 1)[:, None]
    inside = ((sigma > TAU_MIN) & (sigma < TAU_MAX))[:, None]
    expected1 = np.where(inside, w2 / b, 0.0)
    expected2 = np.where(inside, (w1 - 2 * sigma[:, None] * w2) / b, 0.0)
    np.testing.assert_allclose(d1 * scale, expected1, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(d2 * scale, expected2, rtol=1e-8, atol=1e-9)
    assert 10 < inside.sum() < 50


@pytest.mark.parametrize("layer", [clip_autodiff, clip_implicit])
def test_a_bound_that_is_active_moves_the_step(layer):
    u1, u2, sigma = vectors()
    low, high = jax.vmap(jax.grad(layer, argnums=(2, 3)), in_axes=(0, 0, None, None))(
        u1, u2, TAU_MIN, TAU_MAX
    )
    np.testing.assert_array_equal(low, (sigma < TAU_MIN).astype(float))
    np.testing.assert_array_equal(high, (sigma > TAU_MAX).astype(float))


@pytest.mark.parametrize("name", ["implicit", "clip", "straight_through"])
def test_zero_u2_is_guarded(name):
    with jax.debug_nans(True):
        value, grads = jax.value_and_grad(CLIP_LAYERS[name], argnums=(0, 1))(
            -jnp.ones(6),
            jnp.zeros(6),
            TAU_MIN,
            TAU_MAX,  # 0 is not where clipping ends
        )
    assert float(value) == 0.0
    assert all(np.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1.0, 1e3, 1e200])
def test_straight_through_has_the_value_of_the_clip_and_the_derivative_of_none(scale):
    """∂σ/∂u1 = u2/b and ∂σ/∂u2 = (u1 - 2σu2)/b on both sides of both bounds."""
    u1, u2, sigma = vectors(scale)
    value, (d1, d2) = jax.jit(
        jax.vmap(
            jax.value_and_grad(
                lambda a, b: clip_straight_through(a, b, TAU_MIN, TAU_MAX), argnums=(0, 1)
            )
        )
    )(u1, u2)
    np.testing.assert_allclose(value, np.clip(sigma, TAU_MIN, TAU_MAX), rtol=1e-9, atol=1e-12)
    w1, w2 = np.asarray(u1) / scale, np.asarray(u2) / scale
    b = np.sum(w2 * w2, 1)[:, None]
    np.testing.assert_allclose(d1 * scale, w2 / b, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(d2 * scale, (w1 - 2 * sigma[:, None] * w2) / b, rtol=1e-8, atol=1e-9)
    assert np.sum(sigma < TAU_MIN) > 5
    assert np.sum(sigma > TAU_MAX) > 5


def test_straight_through_has_the_differences_of_the_projection():
    """Of σ by NumPy, at a step that a bound cuts off."""
    u1, u2 = 5.0 * np.arange(1.0, 7.0), np.array([1.0, 2.0, -1.0, 0.5, 3.0, 1.0])
    assert u1 @ u2 / (u2 @ u2) > 1.0
    gradient = jax.grad(clip_straight_through)(jnp.array(u1), jnp.array(u2), TAU_MIN, TAU_MAX)
    for j, step in enumerate(1e-6 * np.eye(6)):
        plus, minus = ((u1 + sign * step) @ u2 / (u2 @ u2) for sign in (1, -1))
        assert abs((plus - minus) / 2e-6 - float(gradient[j])) < 1e-8


def test_straight_through_leaves_its_bounds_alone():
    u1, u2, _ = vectors()
    low, high = jax.vmap(jax.grad(clip_straight_through, argnums=(2, 3)), (0, 0, None, None))(
        u1, u2, TAU_MIN, TAU_MAX
    )
    np.testing.assert_array_equal(low, np.zeros(60))
    np.testing.assert_array_equal(high, np.zeros(60))


@pytest.mark.parametrize("name", ["implicit", "clip", "straight_through", "cvx"])
@pytest.mark.parametrize("sigma", [1e8 / 7, -1e8 / 7, 1e17, -1e17, -1e100])
def test_far_beyond_a_bound_the_value_is_still_the_bound(name, sigma, request):
    """All layers have one value: where u2 is small σ is huge."""
    if name == "cvx":
        request.getfixturevalue("cvx")
    u2 = jnp.array([0.4, -0.3, 0.5, 0.2, -0.1, 0.6])
    tau = CLIP_LAYERS[name](sigma * u2, u2, jnp.array(TAU_MIN), jnp.array(TAU_MAX))
    assert abs(float(tau) - np.clip(sigma, TAU_MIN, TAU_MAX)) < 1e-12


def test_implicit_has_the_derivative_of_finite_differences():
    u1, u2, sigma = vectors(num=20)
    h = 1e-6
    for a, b, s in zip(u1, u2, sigma, strict=True):
        if abs(s - TAU_MIN) < 0.02 or abs(s - TAU_MAX) < 0.02:
            continue
        grads = jax.grad(clip_implicit, argnums=(0, 1))(a, b, TAU_MIN, TAU_MAX)
        for argument, gradient in enumerate(grads):
            for j in range(6):
                step = np.zeros(6)
                step[j] = h
                plus, minus = (
                    [v + sign * step if k == argument else v for k, v in enumerate((a, b))]
                    for sign in (1, -1)
                )
                difference = float(
                    clip_implicit(*plus, TAU_MIN, TAU_MAX) - clip_implicit(*minus, TAU_MIN, TAU_MAX)
                ) / (2 * h)
                assert abs(difference - float(gradient[j])) < 1e-6


def scan_loss(layer):
    """50 steps whose state feeds the next layer: forward, and backward through all of them."""

    def loss(W, drive):
        def body(x, drive_k):
            u2 = W[1] @ x + 1.0
            tau = layer(3.0 * (W[0] @ x) - u2, u2, TAU_MIN, TAU_MAX)
            # Contractive, so that the layers' errors are compared and not their amplification.
            return 0.4 * jnp.tanh(x + jnp.exp(tau) * (W[2] @ x)) + drive_k, tau

        _, taus = jax.lax.scan(body, jnp.ones(6), drive)
        return jnp.sum(taus), taus

    return loss


def scan_inputs():
    rng = np.random.default_rng(5)
    return jnp.array(rng.normal(size=(3, 6, 6))), jnp.array(rng.normal(size=(8, 50, 6)))


def compare(layer):
    """Forward and gradient errors of a layer against `implicit`, under jit, vmap, scan and grad."""
    W, drives = scan_inputs()

    def run(layer):
        grad = jax.grad(scan_loss(layer), has_aux=True)
        return jax.jit(jax.vmap(grad, in_axes=(None, 0)))(W, drives)

    (g, taus), (g_ref, taus_ref) = run(layer), run(clip_implicit)
    taus_ref = np.asarray(taus_ref)
    # Away from the kink, and with both active and free steps: else the test would say little.
    distance = np.minimum(np.abs(taus_ref - TAU_MIN), np.abs(taus_ref - TAU_MAX))
    strict = (distance > 1e-2) | (distance == 0.0)
    assert 0.05 < np.mean(distance == 0.0) < 0.95
    forward = np.max(np.abs(np.asarray(taus) - taus_ref))
    norms = np.linalg.norm(np.asarray(g - g_ref).reshape(8, -1), axis=1)
    scale = np.linalg.norm(np.asarray(g_ref).reshape(8, -1), axis=1)
    return forward, norms / scale, strict.all(axis=1)


def test_implicit_agrees_with_clip_in_a_scan():
    forward, gradient, _ = compare(clip_autodiff)
    assert forward < 1e-12
    assert gradient.max() < 1e-8


def test_cvx_agrees_with_implicit_in_a_scan(cvx):
    forward, gradient, strict = compare(clip_cvx)
    assert strict.sum() >= 4
    assert forward < 1e-6
    assert gradient[strict].max() < 1e-4


@pytest.mark.parametrize("scale", some_of([1e-3, 1.0, 1e3], quick=(0,)))
def test_cvx_agrees_with_implicit_at_all_scales(cvx, scale):
    u1, u2, sigma = vectors(scale)
    run = [
        jax.jit(
            jax.vmap(
                jax.value_and_grad(
                    lambda a, b, f=layer: f(a, b, jnp.array(TAU_MIN), jnp.array(TAU_MAX)),
                    argnums=(0, 1),
                )
            )
        )(u1, u2)
        for layer in (clip_cvx, clip_implicit)
    ]
    (tau, grads), (tau_ref, grads_ref) = run
    np.testing.assert_allclose(tau, tau_ref, atol=1e-6)
    inside = (sigma > TAU_MIN) & (sigma < TAU_MAX)
    for g, ref in zip(grads, grads_ref, strict=True):
        error = np.linalg.norm(g - ref, axis=1)
        free = np.linalg.norm(ref[inside], axis=1).mean()
        assert np.max(error[inside] / np.linalg.norm(ref[inside], axis=1)) < 1e-4
        assert np.max(error[~inside]) < 1e-4 * free  # the true gradient is 0: solver noise alone


def test_cvx_moves_with_an_active_bound(cvx):
    u1, u2, sigma = vectors(num=12)
    low, high = jax.vmap(jax.grad(clip_cvx, argnums=(2, 3)), in_axes=(0, 0, None, None))(
        u1, u2, jnp.array(TAU_MIN), jnp.array(TAU_MAX)
    )
    np.testing.assert_allclose(low, (sigma < TAU_MIN).astype(float), atol=1e-4)
    np.testing.assert_allclose(high, (sigma > TAU_MAX).astype(float), atol=1e-4)


def test_moreaus_active_set_mode_would_have_failed(cvx):
    """Why `ipm` is not a matter of taste: the default solver mode differentiates wrongly in a scan.

    If this test fails because the default has become right, the explicit `ipm` may go.
    """
    import cvxpy as cp
    from cvxpylayers.jax import CvxpyLayer

    tau = cp.Variable(1)
    u1, u2, low, high = (cp.Parameter(n) for n in (6, 6, 1, 1))
    problem = cp.Problem(cp.Minimize(cp.sum_squares(u2 * tau - u1)), [tau >= low, tau <= high])
    parameters = [u1, u2, low, high]
    with pytest.warns(UserWarning, match="ACTIVE_SET"):
        layer = CvxpyLayer(problem, parameters=parameters, variables=[tau], solver="MOREAU")

    def active_set(a, b, tau_min, tau_max):
        norm = jnp.linalg.norm(b)
        (out,) = layer(
            a / norm, b / norm, jnp.full(1, tau_min, a.dtype), jnp.full(1, tau_max, a.dtype)
        )
        return out[0]

    forward, gradient, strict = compare(active_set)
    assert forward < 1e-5
    assert gradient[strict].max() > 1e-2


@pytest.mark.parametrize("scale", some_of([1e-3, 1.0, 1e3], quick=(2,)))
def test_diffcp_has_the_value_and_the_derivative_of_the_closed_form(cvx, scale):
    """Eagerly: the solver that the paper's authors had."""
    u1, u2, sigma = vectors(scale, num=12, seed=3)
    inside = (sigma > TAU_MIN) & (sigma < TAU_MAX)
    assert 2 < inside.sum() < 10
    layer = jax.value_and_grad(lambda a, b: clip_cvx(a, b, TAU_MIN, TAU_MAX, "DIFFCP"), (0, 1))
    for a, b, s, free in zip(np.asarray(u1), np.asarray(u2), sigma, inside, strict=True):
        tau, (d1, d2) = layer(jnp.array(a), jnp.array(b))
        assert abs(float(tau) - np.clip(s, TAU_MIN, TAU_MAX)) < 1e-6
        norm = b @ b
        for gradient, expected in ((d1, b / norm), (d2, (a - 2 * s * b) / norm)):
            # At an active bound the true derivative is 0: this solver's noise is 3e-4 there.
            error = np.linalg.norm(gradient - (expected if free else 0.0))
            assert error < (1e-4 if free else 1e-3) * np.linalg.norm(expected)


def test_diffcp_moves_with_an_active_bound(cvx):
    u1, u2, sigma = vectors(num=6, seed=3)
    assert {int(s > TAU_MAX) - int(s < TAU_MIN) for s in sigma} == {-1, 0, 1}
    for a, b, s in zip(u1, u2, sigma, strict=True):
        low, high = jax.grad(clip_cvx, (2, 3))(
            a, b, jnp.array(TAU_MIN), jnp.array(TAU_MAX), "DIFFCP"
        )
        assert abs(float(low) - (s < TAU_MIN)) < 1e-3
        assert abs(float(high) - (s > TAU_MAX)) < 1e-3


def test_diffcp_cannot_be_traced(cvx):
    """As `clip_cvx` says. If this fails, it can, and the docs should no longer say so."""
    u1, u2, _ = vectors(num=1)
    with pytest.raises(jax.errors.TracerArrayConversionError):
        jax.jit(lambda a: clip_cvx(a, u2[0], -3.0, 0.0, "DIFFCP"))(u1[0])


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_cvx_survives_numbers_that_are_not_finite(cvx, bad):
    """Their unroll is skipped as not finite; the solver must not end the process."""
    u1 = jnp.ones(6).at[2].set(bad)
    run = jax.jit(jax.value_and_grad(clip_cvx))
    value, _ = run(u1, jnp.ones(6), jnp.array(TAU_MIN), jnp.array(TAU_MAX))
    assert not jnp.isfinite(value)


def test_unknown_layer():
    with pytest.raises(ValueError, match="Unknown clip layer 'ste'"):
        get_clip_layer("ste")


def test_absent_extra(monkeypatch):
    import sys

    from jax_lbfgs_pi import clip

    clip._cvx_layer.cache_clear()
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(ImportError, match=r"pip install 'jax_lbfgs_pi\[cvx\]'"):
        clip_cvx(jnp.ones(6), jnp.ones(6), jnp.array(-3.0), jnp.array(0.0))
