"""A policy for one class of problems, trained from a shipped one, and what it is worth."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jax_lbfgs_pi.files import claim, write_atomically
from jax_lbfgs_pi.policy import General, Rule
from jax_lbfgs_pi.pretrained import list_policies, load_policy, policy_digest
from jax_lbfgs_pi.tasks.base import TaskSet
from jax_lbfgs_pi.training.development import (
    RULE,
    Check,
    Development,
    FineTuneConfig,
    final_verdict,
    plain,
    untrained,
)
from jax_lbfgs_pi.training.evolution_config import EvolutionConfig
from jax_lbfgs_pi.training.evolution_run import KEPT, evolve_in
from jax_lbfgs_pi.training.population import of_tasks
from jax_lbfgs_pi.training.verdict import Verdict

FEWEST_TASKS = 20
SETTINGS, CHECKS = "settings.json", "checks.jsonl"


class FineTuned(NamedTuple):
    """What `fine_tune` returns.

    Attributes:
      policy: the best one by the development tasks; the first policy itself if none was better.
      verdict: on the held-out tasks.
      checks: the looks at the development tasks.
      num_evals: evaluations of a run in training.
    """

    policy: General
    verdict: Verdict
    checks: list[Check]
    num_evals: int


def fine_tune(
    tasks: TaskSet,
    *,
    start: Any = "general",
    config: FineTuneConfig | None = None,
    out: str | os.PathLike[str] | None = None,
    on_check: Callable[[Check], None] | None = None,
    on_generation: Callable[[int], None] | None = None,
) -> FineTuned:
    """Trains a policy on tasks of one class, and judges it on others of them.

    Three fifths of the tasks are trained on, by evolution strategies; on a fifth it is decided
    which policy is kept and when training ends; a fifth is held out for the verdict.

    Args:
      tasks: of one shape, at least 20; some hundreds make a verdict sharp.
      start: the policy to begin with: `general`, `rule`, or one that was trained like this, as a
        name, a path or itself.
      config: the settings.
      out: a folder, in which an interrupted training goes on; None keeps nothing.
      on_check: called after each look at the development tasks.
      on_generation: called after each generation with the number of those made.

    Returns:
      The policy, the verdict, and the looks.

    Raises:
      TypeError: for tasks or a config that are none.
      ValueError: for fewer than 20 tasks, or none with a finite loss at its start, a start of
        another form, or a folder with another training.
    """
    if not isinstance(tasks, TaskSet):
        raise TypeError(f"tasks must be a TaskSet, but got a {type(tasks).__name__}.")
    if not (config is None or isinstance(config, FineTuneConfig)):
        raise TypeError(f"config must be a FineTuneConfig or None, but got {config!r}.")
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            return fine_tune(
                tasks, start=start, config=config, out=folder, on_check=on_check,
                on_generation=on_generation,
            )  # fmt: skip
    config = config or FineTuneConfig()
    first, start_name = _start(start)
    training, development, held_out = split(tasks, config.seed)
    folder = Path(out)
    _claim(folder, config, first, tasks)
    about = Development(development, first, start_name, config)
    evolution = EvolutionConfig(
        generations=config.generations,
        families_per_generation=1,
        num_pairs=config.num_pairs,
        num_evals=about.num_evals,
        memory_sizes=(config.memory_size,),
        sigma=config.sigma,
        learning_rate=config.learning_rate,
        seed=config.seed,
    )
    checks = _read_checks(folder)

    def kept(generation: int) -> General:
        policy = load_policy(folder / KEPT / f"{generation:05d}")
        assert isinstance(policy, General)
        return plain(policy)

    def look_at(generation: int) -> bool:
        """Whether there has been nothing better for long."""
        if generation not in (check.generation for check in checks):
            policy = kept(generation)
            check = about.check(generation, policy, max([0.0, *(c.saved for c in checks)]))
            checks.append(check)
            rows = (json.dumps(check._asdict()) + "\n" for check in checks)
            write_atomically(folder / CHECKS, "".join(rows))
            if on_check is not None:
                on_check(check)
        return _since_best(checks) >= config.patience

    def after(record: Any) -> bool:
        done = record.generation + 1
        if on_generation is not None:
            on_generation(done)
        return done % config.check_every == 0 and look_at(done)

    for path in sorted((folder / KEPT).glob("*")):  # a killed run may not have looked at its last
        look_at(int(path.stem))
    if _since_best(checks) < config.patience:
        evolve_in(
            folder,
            evolution,
            sources=[of_tasks(training, config.tasks_per_generation)],
            start=first,
            save_every=config.check_every,
            keep_every=config.check_every,
            on_generation=after,
        )
    best = next((check for check in reversed(checks) if check.best), None)
    policy = first if best is None else kept(best.generation)
    verdict = final_verdict(policy, first, held_out, about, config)
    return FineTuned(policy, verdict, checks, about.num_evals)


def split(tasks: TaskSet, seed: int = 0) -> tuple[TaskSet, TaskSet, TaskSet]:
    """Three fifths to train on, one to choose by, one to report on: disjoint, in random order.

    Raises:
      ValueError: for fewer than 20 tasks.
    """
    if len(tasks) < FEWEST_TASKS:
        raise ValueError(
            f"Training a policy and judging it needs at least {FEWEST_TASKS} tasks, but there are "
            f"{len(tasks)}: draw more, some hundreds if you can."
        )
    order = np.random.default_rng(seed).permutation(len(tasks))
    a, b = (3 * len(tasks)) // 5, (4 * len(tasks)) // 5
    return tasks.choose(order[:a]), tasks.choose(order[a:b]), tasks.choose(order[b:])


def _start(start: Any) -> tuple[General, str]:
    policy = load_policy(start) if isinstance(start, str | os.PathLike) else start
    shipped = isinstance(start, str) and start in list_policies()
    name = str(start) if shipped else "the first policy"
    if isinstance(policy, Rule):
        return untrained(), RULE
    if not isinstance(policy, General) or policy.is_for_a_dense_h:
        raise ValueError(
            f"Training begins from 'general', 'rule', or a policy trained like this, but got "
            f"{name!r}, a {type(policy).__name__}."
        )
    return plain(policy), name


def _since_best(checks: list[Check]) -> int:
    best = [i for i, check in enumerate(checks) if check.best]
    return len(checks) - 1 - best[-1] if best else len(checks)


def _read_checks(folder: Path) -> list[Check]:
    path = folder / CHECKS
    if not path.is_file():
        return []
    try:
        return [Check(**json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The file {CHECKS!r} in {str(folder)!r} is damaged: restore it, or delete the folder "
            f"and train again."
        ) from error


def _claim(folder: Path, config: FineTuneConfig, first: General, tasks: TaskSet) -> None:
    """Refuses a folder with a training of other settings or tasks, or from another policy."""
    settings = {
        "config": dataclasses.asdict(config),
        "start": policy_digest(first),
        "tasks": {"name": tasks.name, "number": len(tasks), "data": tasks.digest()},
    }
    claim(folder, SETTINGS, settings, "a training of other settings or tasks")
