"""A small race, run once for the tests of its runs and those of what is said of it."""

import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.evaluation import race
from tests.race.helpers import competitors


@pytest.fixture(scope="session")
def tasks():
    return lp.get_tasks("quadratic", "dev", num_tasks=3)


@pytest.fixture(scope="session")
def raced(tasks):
    return race(tasks, competitors("L-BFGS-B", "ADAM", "L-BFGS-BTLS"), max_iters=60, tol=1e-2)
