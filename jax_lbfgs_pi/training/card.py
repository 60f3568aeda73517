"""The card of a trained policy: what it was trained on, how, and what training looked like."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_lbfgs_pi.training.config import MetaTrainConfig
from jax_lbfgs_pi.training.log import MetaTrainLog

BLOWN_UP = 1e3  # F of an unroll that went astray: 50 steps at f(x0) sum up to some 120
MOST_ROWS = 12


def training_card(
    name: str,
    tasks: str,
    num_tasks: int,
    config: MetaTrainConfig,
    log: MetaTrainLog,
    provenance: Mapping[str, Any],
) -> str:
    """A card in Markdown.

    Args:
      name: the policy's.
      tasks: the name of the task set.
      num_tasks: how many tasks it has.
      config: the settings of the run.
      log: its records.
      provenance: the command, versions, machine and date, by name.
    """
    default = MetaTrainConfig()
    changed = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name != "seed" and getattr(config, field.name) != getattr(default, field.name)
    }
    settings = ", ".join(f"{k}={v}" for k, v in changed.items())
    seconds = float(sum(record.seconds for record in log.records))
    rows = [_row(log, epoch) for epoch in _shown_epochs(log)]
    header = ["epoch", "median F, first unrolls", "median F, all", f"unrolls above {BLOWN_UP:,.0f}"]
    table = [header, ["---:"] * len(header), *rows]
    lines = [
        f"# {name}",
        "",
        f"Trained on {num_tasks} tasks of {tasks}, one fixed x0 each.",
        "",
        f"- Settings: preset `paper`{' but for ' + settings if settings else ''}; seed "
        f"{config.seed}.",
        f"- {len(log.records):,} outer steps of {log.seconds_per_step:.3f} s (median), "
        f"{seconds / 3600:.2f} hours; {log.num_skipped} unrolls skipped.",
        f"- Command: `{provenance['command']}`.",
        f"- {provenance['date']}; jax {provenance['jax']}, Python {provenance['python']}, "
        f"{provenance['cpu_cores']} core(s), {provenance['device']}, "
        f"{'float64' if provenance['x64'] else 'float32'}.",
        "",
        *("| " + " | ".join(row) + " |" for row in table),
    ]
    return "\n".join(lines) + "\n"


def _shown_epochs(log: MetaTrainLog) -> list[int]:
    epochs = sorted({record.epoch for record in log.records})
    stride = -(-len(epochs) // MOST_ROWS)
    return sorted({*epochs[::stride], *epochs[-1:]})


def _row(log: MetaTrainLog, epoch: int) -> list[str]:
    records = [r for r in log.records if r.epoch == epoch]
    losses = np.array([r.loss for r in records])
    first = np.array([r.loss for r in records if r.unroll == 0])
    # A skipped unroll has no loss; it went astray like those that are too large.
    blown_up = int(np.sum(~(losses <= BLOWN_UP)))
    medians = [f"{np.median(np.nan_to_num(x, nan=np.inf)):.4g}" for x in (first, losses)]
    return [str(epoch + 1), *medians, f"{blown_up} of {len(records)}"]
