"""A training by evolution strategies in a folder: its state, its log, and going on from there."""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi.files import write_arrays, write_atomically
from jax_lbfgs_pi.locks import owned
from jax_lbfgs_pi.policy import General
from jax_lbfgs_pi.pretrained import save_policy
from jax_lbfgs_pi.training.evolution import (
    EvolutionState,
    GenerationRecord,
    begin,
    evolve,
    policy_of,
)
from jax_lbfgs_pi.training.evolution_config import EvolutionConfig
from jax_lbfgs_pi.training.population import Source

STATE, LOG, KEPT = "state.npz", "generations.jsonl", "policies"


def evolve_in(
    folder: str | os.PathLike[str],
    config: EvolutionConfig,
    *,
    sources: Sequence[Source] | None = None,
    start: General | None = None,
    save_every: int = 10,
    keep_every: int = 250,
    on_generation: Callable[[GenerationRecord], bool | None] | None = None,
) -> tuple[General, list[dict[str, Any]]]:
    """`evolve`, with its state kept in a folder: what was interrupted goes on, to the bit.

    Args:
      folder: where the state and the log are.
      config: the settings.
      sources: where problems come from; by default the families of `config`.
      start: the policy to begin with, if not the one without weights.
      save_every: generations between two saves.
      keep_every: generations between two policies that are kept, as `policies/<generation>`.
      on_generation: called after each; where it returns True, training ends.

    Returns:
      The policy, and the log: a record of each generation, as a dict, with its seconds.

    Raises:
      ValueError: if the folder holds a training of other settings or a damaged one, or another
        process is at it.
    """
    folder = Path(folder)
    with owned(folder):
        state, log = _restore(folder, config, start)
        note = _noter(folder, config, log, save_every, keep_every, on_generation)
        policy, _ = evolve(config, sources=sources, state=state, on_generation=note)
        return policy, log


def _noter(
    folder: Path,
    config: EvolutionConfig,
    log: list[dict[str, Any]],
    save_every: int,
    keep_every: int,
    on_generation: Callable[[GenerationRecord], bool | None] | None,
) -> Callable[[GenerationRecord, EvolutionState], bool | None]:
    """What follows each generation: its record, the state and the policy in their files."""
    began = time.perf_counter()

    def note(record: GenerationRecord, state: EvolutionState) -> bool | None:
        nonlocal began
        now = time.perf_counter()
        log.append({**record._asdict(), "seconds": now - began})
        began = now
        if state.generation % save_every == 0 or state.generation == config.generations:
            _save(folder, config, state, log)
        if state.generation % keep_every == 0:
            policy = policy_of(config, state)
            save_policy(policy, folder / KEPT / f"{state.generation:05d}")
        return None if on_generation is None else on_generation(record)

    return note


def _save(
    folder: Path, config: EvolutionConfig, state: EvolutionState, log: list[dict[str, Any]]
) -> None:
    # The log first: one that is ahead of the state is cut when it is read.
    write_atomically(folder / LOG, "".join(json.dumps(row) + "\n" for row in log))
    leaves = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    write_arrays(folder / STATE, {"config": _as_text(config)} | leaves)


def _restore(
    folder: Path, config: EvolutionConfig, policy: General | None
) -> tuple[EvolutionState, list[dict[str, Any]]]:
    start = begin(config, policy)
    path = folder / STATE
    if not path.is_file():
        return start, []
    leaves, tree = jax.tree.flatten(start)
    try:
        with path.open("rb") as handle, np.load(handle) as file:
            settings = str(file["config"])
            saved = [file[f"leaf{i}"] for i in range(len(leaves))]
    except Exception as error:  # NumPy raises almost anything
        raise ValueError(_damaged(folder, STATE)) from error
    if settings != _as_text(config):
        raise ValueError(
            f"The folder {str(folder)!r} holds a training of other settings: choose another "
            f"with --out, or delete it."
        )
    if [leaf.shape for leaf in saved] != [np.shape(leaf) for leaf in leaves]:
        raise ValueError(_damaged(folder, STATE))
    state: EvolutionState = jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in saved])
    state = state._replace(generation=int(state.generation))
    try:
        rows = (folder / LOG).read_text(errors="replace").splitlines()[: state.generation]
        log = [json.loads(row) for row in rows]
    except (OSError, ValueError) as error:
        raise ValueError(_damaged(folder, LOG)) from error
    if len(log) < state.generation:
        raise ValueError(_damaged(folder, LOG))
    return state, log


def _damaged(folder: Path, name: str) -> str:
    return (
        f"The file {name!r} in {str(folder)!r} is damaged, or shorter than the training that it "
        f"tells of: restore it, or delete the folder and train again."
    )


def _as_text(config: EvolutionConfig) -> str:
    return json.dumps(dataclasses.asdict(config), sort_keys=True)
