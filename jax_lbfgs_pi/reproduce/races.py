"""The races behind the paper's tables and figures: their tasks, and who takes part."""

import dataclasses
import math
import os
from pathlib import Path

import optax

from jax_lbfgs_pi.acceptance import Guard
from jax_lbfgs_pi.baselines import Competitor, baselines, policy_competitor
from jax_lbfgs_pi.policy import Policy
from jax_lbfgs_pi.pretrained import DEFAULT, Saved, load_policy
from jax_lbfgs_pi.reproduce import policies
from jax_lbfgs_pi.reproduce.grids import TUNED, tuned_competitors
from jax_lbfgs_pi.reproduce.trainings import TRAININGS, policy_path
from jax_lbfgs_pi.tasks.base import TaskSet
from jax_lbfgs_pi.tasks.suites import get_tasks

FAVOURITE = "L-BFGS-π"
PAPERS = ("ADAM", "RMSProp", "L-BFGS-B", "L-BFGS-BTLS")
TODAYS = ("optax.lbfgs", "SciPy", "Prodigy")
CURVES = 10  # tasks whose whole curves are kept (Fig. 3 and 7)
TOLERANCE = 1e-8
PLATEAU = 2.2  # classifiers of ten classes that know no more than the prior stand at 2.29 to 2.30


@dataclasses.dataclass(frozen=True)
class Race:
    """A race of the reproduction.

    Attributes:
      name: of its folder.
      dataset: what the tasks are made of.
      policies: shipped policies, those of `reproduce.policies`, or training runs of the
        reproduction, by the names they race under; those of `IN_FULL` run every task.
      against: the competitors that run every task.
      beside: those that run the first `num_beside` tasks, as the other policies do: all would take
        too long.
      size: of the MLP.
      batch_size: N, the images of a task.
      split: `test`, or `train` for what is chosen by.
      num_tasks: how many tasks the full reproduction has.
      num_beside: see `beside`.
      max_iters: K.
      sketch: tasks and iterations where `--tasks` asks for fewer than ten: the race's form.
      plateau_value: f above which a vanishing gradient is a plateau's.
    """

    name: str
    dataset: str
    policies: dict[str, str]
    against: tuple[str, ...]
    beside: tuple[str, ...] = ()
    size: tuple[int, int] = (1, 20)
    batch_size: int = 1000
    split: str = "test"
    num_tasks: int = 1000
    num_beside: int = 100
    max_iters: int = 800
    sketch: tuple[int, int] = (10, 800)
    plateau_value: float = PLATEAU

    @property
    def has_tuned(self) -> bool:
        """Whether competitors take part that the tuning grids choose."""
        return not {*self.against, *self.beside}.isdisjoint(TUNED.values())

    def limits(self, num_tasks: int | None) -> tuple[int, int]:
        """Tasks and iterations under `--tasks num_tasks`."""
        if num_tasks is None:
            return self.num_tasks, self.max_iters
        if num_tasks >= 10:
            return min(num_tasks, self.num_tasks), self.max_iters
        return min(num_tasks, self.sketch[0]), min(self.max_iters, self.sketch[1])


_PI = {FAVOURITE: policies.LETTER}
LIMITED = f"{FAVOURITE}, limited"
LIMITED_SEEDS = {
    f"{LIMITED}, seed {i}" if i else LIMITED: name for i, name in enumerate(policies.LIMITED_SEEDS)
}
LIMITED_1 = f"{LIMITED}, seed 1"
IN_FULL = (FAVOURITE, LIMITED, LIMITED_1)  # policies that run every task
_TODAYS_PI = {f"{FAVOURITE}, {DEFAULT}": DEFAULT}  # with its safeguards, and the others' memory
_BOTH = _PI | {LIMITED: policies.LIMITED}  # the same training, with a limit on θ's gradient
_LUCK = {  # the same training with other luck
    f"{FAVOURITE}, seed 1": policies.LETTER_SEEDS[1],
    f"{FAVOURITE}, seed 2": policies.LETTER_SEEDS[2],
    f"{FAVOURITE}, 5 epochs": policies.LETTER_5_EPOCHS,
    **LIMITED_SEEDS,
}

RACES = {
    race.name: race
    for race in (
        Race("mnist-1x20", "mnist", _BOTH | _LUCK, PAPERS, (*TODAYS, *TUNED.values())),
        Race(
            "mnist-2x400", "mnist", _BOTH | _TODAYS_PI, PAPERS, size=(2, 400), num_tasks=100,
            sketch=(2, 20),
        ),
        Race(
            "mnist-4x800", "mnist", _BOTH | _TODAYS_PI, PAPERS, size=(4, 800), num_tasks=100,
            sketch=(1, 8),
        ),
        Race(
            "cifar10", "cifar10", _PI | {"L-BFGS-π_C": "cifar"} | _TODAYS_PI, PAPERS,
            num_tasks=100,
            sketch=(1, 2),  # convolutions in float64 are slow on a CPU
        ),
        Race(
            "cifar10-100", "cifar10", _PI | {"L-BFGS-π_C": "cifar-100"}, PAPERS, batch_size=100,
            num_tasks=100, sketch=(1, 2),
        ),
        *(
            Race(name, name, _BOTH, PAPERS, TODAYS, num_tasks=100, plateau_value=math.inf)
            for name in ("quadratic", "logistic")
        ),
    )
}  # fmt: skip
"""By name. Test tasks all: what is chosen is chosen in `grids` on training tasks."""


def tasks_of(race: Race, num_tasks: int | None, data_dir: str | os.PathLike[str] | None) -> TaskSet:
    """The tasks of a race."""
    count, _ = race.limits(num_tasks)
    return get_tasks(
        race.dataset,
        race.split,
        size=race.size,
        num_tasks=count,
        batch_size=race.batch_size,
        data_dir=data_dir,
    )


def policies_of(race: Race, out: Path) -> dict[str, Saved]:
    """The policies of a race by the names they race under.

    Args:
      race: the race.
      out: the folder of the reproduction, where its training runs are.

    Raises:
      ValueError: if a policy is not shipped, or its training has not been run.
    """

    def source(policy: str) -> str | Path:
        if policy in policies.NAMES:
            return policies.path_of(policy)
        return policy_path(out, policy) if policy in TRAININGS else policy

    return {name: load_policy(source(policy)) for name, policy in race.policies.items()}


def competitors(race: Race, out: Path) -> dict[str, tuple[Competitor, int]]:
    """The competitors by name, and how many tasks each runs at most.

    A tuned one whose best setting is the paper's is left out: it races already.

    Args:
      race: the race.
      out: the folder of the reproduction; its tuning grids are read if a tuned competitor takes
        part, its training runs if their policies do.

    Raises:
      ValueError: if a policy is not there, or no competitor has such a name.
      FileNotFoundError: if a tuned competitor takes part and the grids have not been run.
    """
    # As in the shipped records: with its own default, 10 pairs.
    ours = baselines() | {"optax.lbfgs": Competitor("optax.lbfgs", optax.lbfgs)}
    known = ours | (tuned_competitors(out / "records") if race.has_tuned else {})
    most = dict.fromkeys(race.against, race.num_tasks) | dict.fromkeys(race.beside, race.num_beside)
    unknown = [name for name in most if name not in (*known, *TUNED.values())]
    if unknown:
        raise ValueError(
            f"The race {race.name!r} has the unknown competitor {unknown[0]!r}: choose among "
            f"{', '.join((*ours, *TUNED.values()))}."
        )
    mine = {
        name: (
            # Networks of the paper's form run as the paper's algorithm, without safeguards.
            policy_competitor(name, policy, guard=None if isinstance(policy, Policy) else Guard()),
            race.num_tasks if name in IN_FULL else race.num_beside,
        )
        for name, policy in policies_of(race, out).items()
    }
    return mine | {name: (known[name], most[name]) for name in most if name in known}
