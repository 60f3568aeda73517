"""How the records of a race are made, by several processes if need be."""

import datetime
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from jax_lbfgs_pi.baselines import Competitor
from jax_lbfgs_pi.evaluation.race import make_runner
from jax_lbfgs_pi.files import write_atomically
from jax_lbfgs_pi.locks import alone
from jax_lbfgs_pi.pretrained import policy_digest
from jax_lbfgs_pi.reproduce.races import CURVES, TOLERANCE, Race, competitors, policies_of, tasks_of
from jax_lbfgs_pi.reproduce.records import RunFolder, row_of
from jax_lbfgs_pi.versions import versions


def run_race(
    race: Race,
    out: Path,
    *,
    num_tasks: int | None = None,
    shard: tuple[int, int] = (0, 1),
    data_dir: str | os.PathLike[str] | None = None,
    again: bool = False,
    on_run: Callable[[str], None] = lambda name: None,
) -> RunFolder:
    """Runs what is missing of a race; task by task, the competitors one after the other.

    Args:
      race: the race.
      out: the folder of the reproduction; the records go to a folder of the race's name in it.
      num_tasks: fewer tasks than the full race, or None.
      shard: (i, n): this process runs the tasks that leave i on division by n.
      data_dir: tensorflow-datasets' folder.
      again: drop the records of policies that are others now under the same names, and race these.
      on_run: called with the competitor's name after each run, also one that was there.

    Returns:
      The folder of records.

    Raises:
      ValueError: if the folder holds records of another version of the race; of other policies,
        unless `again`.
    """
    count, max_iters = race.limits(num_tasks)
    folder = out / "records" / race.name
    entrants = competitors(race, out)
    wanted = _wanted(entrants, range(shard[0], count, shard[1]))
    with alone(out, race.name):
        digests = {name: policy_digest(policy) for name, policy in policies_of(race, out).items()}
        changed = _check(folder, race, max_iters, digests, again=again)
        records = RunFolder(folder)
        for name in changed:
            records.drop(name)
        missing = [pair for pair in wanted if not records.has(*pair)]
        _claim(folder, race, max_iters, digests, adds=bool(missing))
    for _, name in set(wanted) - set(missing):
        on_run(name)
    if missing:
        tasks = tasks_of(race, num_tasks, data_dir)
        run_one = make_runner(tasks, max_iters=max_iters, tol=TOLERANCE)
        for task, name in missing:
            run = run_one(task, entrants[name][0])
            row = row_of(run, task, name, plateau_value=race.plateau_value)
            records.save(run, row, curve=task < CURVES)
            on_run(name)
    return records


def count_runs(race: Race, out: Path, num_tasks: int | None, shard: tuple[int, int]) -> int:
    """How many runs a shard of a race has."""
    count, _ = race.limits(num_tasks)
    entrants = competitors(race, out)
    return len(_wanted(entrants, range(shard[0], count, shard[1])))


def _wanted(
    entrants: dict[str, tuple[Competitor, int]], tasks: Iterable[int]
) -> list[tuple[int, str]]:
    return [(t, name) for t in tasks for name, (_, most) in entrants.items() if t < most]


def _check(
    folder: Path, race: Race, max_iters: int, digests: dict[str, str], *, again: bool
) -> list[str]:
    """The policies that are others now than in the records; refuses these unless `again`."""
    path = folder / "race.json"
    if not path.is_file():
        return []
    there = json.loads(path.read_text())
    changed = [name for name, d in digests.items() if there["policies"].get(name, d) != d]
    settings = _settings(race, max_iters)
    if {name: there.get(name) for name in settings} != settings or (changed and not again):
        raise ValueError(
            f"The folder {str(folder)!r} holds records of another race or policy (see its "
            f"race.json): choose another with --out, or delete it"
            f"{', or race what has changed with --again' if changed else ''}."
        )
    return changed


def _settings(race: Race, max_iters: int) -> dict[str, Any]:
    return {"race": race.name, "max_iters": max_iters, "tol": TOLERANCE}


def _claim(
    folder: Path, race: Race, max_iters: int, digests: dict[str, str], *, adds: bool
) -> None:
    """Writes down what the records of a folder are of, and who `adds` to it.

    Under `provenance` stand the versions and the devices that records were made with, each with the
    day on which it came: others may go on with a race.
    """
    path, made_by = folder / "race.json", []
    if path.is_file():
        there = json.loads(path.read_text())
        digests, made_by = there["policies"] | digests, there.get("provenance", [])
    here = versions() | {"device": jax.devices()[0].device_kind}
    if adds and all(entry != here | {"date": entry["date"]} for entry in made_by):
        made_by.append(here | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()})
    claim = _settings(race, max_iters) | {"policies": digests}
    claim |= {"provenance": made_by} if made_by else {}
    write_atomically(path, json.dumps(claim, indent=2, sort_keys=True))
