"""How a policy does on one class of problems, while it is trained and when it is done."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jax_lbfgs_pi.policy import General, Rule, init_general
from jax_lbfgs_pi.tasks.base import TaskSet
from jax_lbfgs_pi.training.config import check_numbers
from jax_lbfgs_pi.training.verdict import (
    SEARCH,
    Curves,
    Verdict,
    costs,
    curves_on,
    judge,
    policy_program,
    reachable,
    saved,
    search_program,
    share_first,
)

TRAINED, RULE = "trained", "rule"
LONGEST, SHORTEST = 400, 30  # evaluations of a run, where they are measured
NUM_VARIANTS = 32
SEARCH_MEMORY = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuneConfig:
    """Settings of `fine_tune`.

    Attributes:
      generations: moves of the weights, at most.
      tasks_per_generation: tasks that a generation draws.
      num_pairs: antithetic pairs of perturbed weights.
      num_evals: evaluations in a run; None measures what the first policy needs, 30 to 400.
      memory_size: pairs; None for the default's memory.
      sigma: standard deviation of the perturbations.
      learning_rate: Adam's at the start; it falls to a tenth along a cosine.
      check_every: generations between two looks at the development tasks.
      patience: looks without a better policy after which training ends.
      seed: of the split, the perturbations and the draws.
    """

    generations: int = 600
    tasks_per_generation: int = 16
    num_pairs: int = 8
    num_evals: int | None = None
    memory_size: int | None = None
    sigma: float = 0.08
    learning_rate: float = 0.05
    check_every: int = 10
    patience: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)


class Check(NamedTuple):
    """A look at the development tasks.

    Attributes:
      generation: moves made.
      saved: percent fewer evaluations than the first policy, in the geometric mean.
      beats_rule: the share of tasks on which it was first against the rule, ties half.
      beats_search: the same against `optax.lbfgs`.
      best: whether no earlier look was better.
    """

    generation: int
    saved: float
    beats_rule: float
    beats_search: float
    best: bool


class Development:
    """The development tasks, what others do on them, and the budget and target that they set.

    Raises:
      ValueError: if the loss is not finite at any start.
    """

    def __init__(self, tasks: TaskSet, first: General, name: str, config: FineTuneConfig) -> None:
        self.name, loss, memory = name, tasks.task.loss, config.memory_size
        on_mine = curves_on(tasks)
        longest = config.num_evals or LONGEST
        program = policy_program(loss, longest, memory_size=memory)
        tried = {name: on_mine(program, first), RULE: on_mine(program, untrained())}
        if not np.isfinite(tried[name][:, 0]).any():
            raise ValueError(
                f"The loss of {tasks.name} is finite at the start of none of {len(tasks)} tasks "
                "that were tried: there is nothing to learn."
            )
        self.target = reachable(tried, name)
        found = np.minimum(costs(tried, self.target)[name], longest)
        usual = int(np.clip(1.5 * np.quantile(found, 0.9), SHORTEST, LONGEST))
        self.num_evals = config.num_evals or usual
        self.most = 2 * self.num_evals  # so that a policy that is a little slower shows
        self.program = policy_program(loss, self.most, memory_size=memory)
        self.search = search_program(loss, self.most, memory_size=memory or SEARCH_MEMORY)
        self.run = functools.partial(on_mine, self.program)
        self.curves = self.rivals(first, on_mine)

    def rivals(self, first: General, on: Callable[..., Curves]) -> dict[str, Curves]:
        """The curves of all but the trained policy."""
        return {
            self.name: on(self.program, first),
            RULE: on(self.program, untrained()),
            SEARCH: on(self.search),
        }

    def check(self, generation: int, policy: General, best: float) -> Check:
        """How a policy does on them."""
        found = costs({**self.curves, TRAINED: self.run(policy)}, self.target)
        ours = found[TRAINED]
        less = saved(ours, found[self.name], self.most).value
        wins = (share_first(ours, found[RULE]), share_first(ours, found[SEARCH]))
        return Check(generation, less, *wins, best=less > best)


def final_verdict(
    policy: General, first: General, tasks: TaskSet, about: Development, config: FineTuneConfig
) -> Verdict:
    """The verdict on held-out tasks.

    Args:
      policy: the trained one.
      first: the one that training began from.
      tasks: the held-out ones.
      about: the budget and the target.
      config: the settings.
    """
    on_held_out = curves_on(tasks)
    curves = {TRAINED: on_held_out(about.program, policy), **about.rivals(first, on_held_out)}
    rng = np.random.default_rng((config.seed, 1))

    def moved(leaf: np.ndarray) -> np.ndarray:
        return leaf + config.sigma * rng.normal(size=np.shape(leaf))

    others = (
        General(params=jax.tree.map(moved, policy.params), base=policy.base)
        for _ in range(NUM_VARIANTS)
    )
    variants = np.stack([on_held_out(about.program, other) for other in others], axis=1)
    return judge(curves, variants, TRAINED, about.name, about.target)


def untrained() -> General:
    """The rule, as the policy that training from it begins with."""
    return init_general(jax.random.key(0), Rule())


def plain(policy: General) -> General:
    """The policy on the rule that all of them adjust, in arrays: of one structure with others."""
    return General(params=jax.tree.map(np.asarray, policy.params), base=Rule())
