"""Families of random small problems, drawn without end: what step rules are trained on."""

from jax_lbfgs_pi.suite.families.base import Family
from jax_lbfgs_pi.suite.families.chains import CHAINS
from jax_lbfgs_pi.suite.families.curves import CURVES
from jax_lbfgs_pi.suite.families.factorisations import FACTORISATIONS
from jax_lbfgs_pi.suite.families.lattices import LATTICES
from jax_lbfgs_pi.suite.families.likelihoods import LIKELIHOODS
from jax_lbfgs_pi.suite.families.networks import MORE_NETWORKS, NETWORKS
from jax_lbfgs_pi.suite.families.polynomials import POLYNOMIALS
from jax_lbfgs_pi.suite.families.quadratics import QUADRATICS
from jax_lbfgs_pi.suite.families.regressions import REGRESSIONS
from jax_lbfgs_pi.suite.families.systems import SYSTEMS

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *QUADRATICS,
        *CURVES,
        *CHAINS,
        *POLYNOMIALS,
        *NETWORKS,
        *FACTORISATIONS,
        *REGRESSIONS,
        *LATTICES,
        *LIKELIHOODS,
        *SYSTEMS,
    )
}
"""By name, those that a policy for windows is trained on."""

LARGE = (
    "quadratic-160", "rosenbrock-chain-120", "classifier-wide-sigmoid", "classifier-wide-tanh",
    "factorisation-large", "poisson-boltzmann-120",
)  # fmt: skip
"""Those of more than 60 variables: with n² numbers a lane they take too long."""

DENSE_FAMILIES: dict[str, Family] = {
    **{name: family for name, family in FAMILIES.items() if name not in LARGE},
    **{family.name: family for family in MORE_NETWORKS},
}
"""By name, those that a policy for a dense H is trained on: small ones, and more networks."""

__all__ = ["DENSE_FAMILIES", "FAMILIES", "Family"]
