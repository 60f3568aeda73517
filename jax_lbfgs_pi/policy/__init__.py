"""Policies: what is answered before the direction and after it, from a step's scalars alone.

`protocol` says what a policy is and `observation` what it may read. `paper`, `rule` and `general`
are policies; none of them knows the others.
"""

from jax_lbfgs_pi.policy.general import OF_A_DENSE_H, OF_A_WINDOW, General, init_general, layers
from jax_lbfgs_pi.policy.observation import (
    Facts,
    InnerProducts,
    Observation,
    Pair,
    inner_products,
)
from jax_lbfgs_pi.policy.paper import (
    Policy,
    StepSizePolicy,
    constant_policy,
    cosine_policy,
    default_float,
    init_policy,
    log_features,
)
from jax_lbfgs_pi.policy.protocol import AnyPolicy, FromProducts, Scaling, StepPolicy
from jax_lbfgs_pi.policy.rule import Rule

__all__ = [
    "OF_A_DENSE_H",
    "OF_A_WINDOW",
    "AnyPolicy",
    "Facts",
    "FromProducts",
    "General",
    "InnerProducts",
    "Observation",
    "Pair",
    "Policy",
    "Rule",
    "Scaling",
    "StepPolicy",
    "StepSizePolicy",
    "constant_policy",
    "cosine_policy",
    "default_float",
    "init_general",
    "init_policy",
    "inner_products",
    "layers",
    "log_features",
]
