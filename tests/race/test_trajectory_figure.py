import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lbfgs_pi as lp


def valley(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def lines(figure):
    """The lines of each panel, without the circles at their ends."""
    return [[line for line in axes.lines if line.get_marker() != "o"] for axes in figure.axes]


def test_what_is_drawn_is_the_trajectory():
    result = lp.minimize(valley, jnp.zeros(2), max_iters=60)
    end = int(result.num_iters) + 1
    figure = lp.plot_trajectory(result, least=-1.0)
    (f,), (norm,), (t,) = lines(figure)
    evals = np.asarray(result.trajectory.num_evals)[:end]
    np.testing.assert_array_equal(f.get_xdata(), evals)
    np.testing.assert_array_equal(f.get_ydata(), np.asarray(result.trajectory.value)[:end] + 1)
    np.testing.assert_array_equal(norm.get_ydata(), np.asarray(result.trajectory.grad_norm)[:end])
    steps = np.asarray(result.trajectory.step_size)[:end]
    np.testing.assert_array_equal(t.get_ydata()[:-1], steps[:-1])
    assert np.isnan(t.get_ydata()[-1])  # no step leaves the last point
    assert not figure.legends


def test_of_a_batch_each_run_has_a_line_and_of_several_each_a_name():
    starts = jax.random.normal(jax.random.key(0), (5, 2))
    batch = jax.vmap(lambda x: lp.minimize(valley, x, max_iters=20))(starts)
    one = jax.tree.map(lambda a: a[0], batch)
    figure = lp.plot_trajectory({"many": batch, "one": one})
    assert [len(panel) for panel in lines(figure)] == [6, 6, 6]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["many", "one"]
    f = lines(figure)[0]
    np.testing.assert_array_equal(f[0].get_xdata(), f[5].get_xdata())
    least = np.nanmin([np.nanmin(line.get_ydata()) for line in f])
    assert 0 < least < 1e-2  # the least that was found is f = 0 here, which no logarithm shows


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match="at least one"):
        lp.plot_trajectory({})
    with pytest.raises(ValueError, match="finite f"):
        lp.plot_trajectory(lp.minimize(lambda x: jnp.sum(x) * jnp.nan, jnp.ones(2), max_iters=2))
