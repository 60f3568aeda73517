"""Families of random small problems, drawn without end: what step rules are trained on."""

from jax_lbfgs_pi.suite.families.base import Family
from jax_lbfgs_pi.suite.families.chains import CHAINS
from jax_lbfgs_pi.suite.families.curves import CURVES
from jax_lbfgs_pi.suite.families.factorisations import FACTORISATIONS
from jax_lbfgs_pi.suite.families.lattices import LATTICES
from jax_lbfgs_pi.suite.families.likelihoods import LIKELIHOODS
from jax_lbfgs_pi.suite.families.networks import NETWORKS
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
"""All families by name."""

__all__ = ["FAMILIES", "Family"]
