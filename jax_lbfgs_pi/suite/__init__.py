"""Problems to develop and to judge optimizers on, split by kind into development and test.

Choices are made on `development`, numbers reported on `test`; what is trained is trained on the
random problems of `families`. No kind stands in both: the split is the file `split.json`.
"""

import functools
import json
from collections import Counter
from collections.abc import Iterable
from importlib import resources

from jax_lbfgs_pi.suite import (  # noqa: F401  each registers its problems
    andrei,
    bbob,
    chains,
    clusters,
    curve_fits,
    dynamics,
    extended,
    gaussian_process,
    generalized_linear,
    image_networks,
    inverse_design,
    lattice,
    least_squares,
    matrix_factors,
    multimodal,
    physics_informed,
)
from jax_lbfgs_pi.suite.problem import REGISTRY, Problem

SPLITS = ("development", "test")


@functools.cache
def _split() -> dict[str, list[str]]:
    text = resources.files(__name__).joinpath("split.json").read_text()
    return json.loads(text)


def list_problems(
    split: str | None = None,
    kinds: Iterable[str] | None = None,
    *,
    per_kind: int | None = None,
) -> list[str]:
    """The names of the problems of a split, of some kinds, or of all.

    Args:
      split: a name in `SPLITS`; None for both.
      kinds: None for all of the split.
      per_kind: how many of each kind at most, the first ones.

    Raises:
      ValueError: for an unknown split or kind.
    """
    if split not in (None, *SPLITS):
        raise ValueError(f"Unknown split {split!r}: choose one of {', '.join(SPLITS)}.")
    chosen = [kind for name in SPLITS if split in (None, name) for kind in _split()[name]]
    if kinds is not None:
        kinds = list(kinds)
        unknown = [kind for kind in kinds if kind not in chosen]
        if unknown:
            raise ValueError(
                f"The {split or 'whole'} suite has no kind {unknown[0]!r}: choose among "
                f"{', '.join(chosen)}."
            )
        chosen = kinds
    seen: Counter[str] = Counter()
    names = []
    for name in REGISTRY.names(chosen):
        seen[REGISTRY.kind(name)] += 1
        if per_kind is None or seen[REGISTRY.kind(name)] <= per_kind:
            names.append(name)
    return names


def get_problem(name: str) -> Problem:
    """The problem of a name.

    Raises:
      ValueError: if there is none.
      DataError: if it needs MNIST or CIFAR-10 and they are missing.
    """
    return REGISTRY.make(name)


__all__ = ["REGISTRY", "SPLITS", "Problem", "get_problem", "list_problems"]
