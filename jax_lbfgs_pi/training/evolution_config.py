"""The settings of a training by evolution strategies."""

import dataclasses
from typing import Any

from jax_lbfgs_pi.policy import OF_A_DENSE_H, OF_A_WINDOW
from jax_lbfgs_pi.suite.families import DENSE_FAMILIES, FAMILIES, Family
from jax_lbfgs_pi.training.config import check_numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """Settings of `evolve`.

    Attributes:
      generations: moves of the weights.
      families: names of the families to draw problems from; empty for all of `FAMILIES`, with a
        dense H of `DENSE_FAMILIES`.
      families_per_generation: how many of them a generation draws from.
      tasks_per_family: problems drawn from each.
      num_pairs: antithetic pairs of perturbed weights.
      num_evals: evaluations in a run.
      memory_sizes: m of L-BFGS, of one family after the other; None for the default's memory.
        `("dense",)` trains a policy for a dense H.
      sigma: standard deviation of the perturbations.
      learning_rate: Adam's at the start; it falls to a tenth along a cosine.
      seed: of the initial weights, the perturbations and the problems.
    """

    generations: int = 2500
    families: tuple[str, ...] = ()
    families_per_generation: int = 10
    tasks_per_family: int = 8
    num_pairs: int = 8
    num_evals: int = 150
    memory_sizes: tuple[int | str | None, ...] = (10, 20)
    sigma: float = 0.08
    learning_rate: float = 0.015
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        sizes = self.memory_sizes
        if not (self.is_dense or (sizes and all(m is None or _is_count(m) for m in sizes))):
            raise ValueError(
                f'memory_sizes must be positive numbers or None, or ("dense",), but got {sizes}.'
            )
        unknown = [name for name in self.families if name not in self.known_families]
        if unknown:
            known = ", ".join(self.known_families)
            raise ValueError(f"Unknown family {unknown[0]!r}: choose among {known}.")

    @property
    def is_dense(self) -> bool:
        """Whether the policy is for a dense H."""
        return tuple(self.memory_sizes) == ("dense",)

    @property
    def answers(self) -> tuple[str, ...]:
        """What the policy answers before the direction."""
        return OF_A_DENSE_H if self.is_dense else OF_A_WINDOW

    @property
    def known_families(self) -> dict[str, Family]:
        """Where `families` are looked up."""
        return DENSE_FAMILIES if self.is_dense else FAMILIES

    def chosen_families(self) -> list[Family]:
        """The families to draw problems from."""
        known = self.known_families
        return [known[name] for name in self.families or known]


def _is_count(m: Any) -> bool:
    return isinstance(m, int) and m > 0


DENSE = EvolutionConfig(
    generations=1200,
    families_per_generation=8,
    tasks_per_family=6,
    num_evals=400,
    memory_sizes=("dense",),
)
"""For a policy for a dense H: longer runs, fewer at once."""
