"""Who takes part in the races of the tests."""

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.baselines import baselines, policy_competitor

BASELINES = baselines()
PI = "L-BFGS-π"


def competitors(*names):
    return [policy_competitor(PI, lp.cosine_policy()), *(BASELINES[name] for name in names)]
