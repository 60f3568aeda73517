"""Solvers on the host: counted, and ended where there is enough."""

import numpy as np
import pytest
import scipy.optimize

from jax_lbfgs_pi.evaluation.host import Asked, Enough, run_scipy


def valley(x):
    return scipy.optimize.rosen(x), scipy.optimize.rosen_der(x)


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS"])
def test_a_run_is_scipys_own(method):
    """The points of a run by hand, up to its budget, and the best of them."""
    points = []

    def remembered(x):
        points.append(x.copy())
        return valley(x)

    scipy.optimize.minimize(
        remembered, np.zeros(4), jac=True, method=method, options={"gtol": 0.0, "maxiter": 99}
    )
    seen = []
    asked = Asked(valley, np.zeros(4), budget=20, watch=lambda x, f, g: seen.append((x.copy(), f)))
    run_scipy(asked, np.zeros(4), method=method, max_iters=99)
    assert asked.num_evals == len(seen) == 20
    assert np.array_equal([x for x, _ in seen], points[:20])
    best = min(seen, key=lambda pair: pair[1])
    assert asked.best[1] == best[1] == scipy.optimize.rosen(asked.best[0])


def test_it_ends_at_the_target():
    asked = Asked(valley, np.zeros(4), target=1e-3)
    run_scipy(asked, np.zeros(4), method="L-BFGS-B", max_iters=1000)
    assert asked.best[1] <= 1e-3
    evals = asked.num_evals
    with pytest.raises(Enough):
        asked(np.zeros(4))
    assert asked.num_evals == evals


def test_the_best_is_a_copy():
    asked, x = Asked(valley, np.ones(4)), np.zeros(4)
    asked(x)
    x += 1.0
    assert np.array_equal(asked.best[0], np.zeros(4))
