"""Runs, rows, records, logs and images made by hand."""

import dataclasses
import json
import math
import zlib

import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.evaluation.run import Run
from jax_lbfgs_pi.reproduce.records import Records, RunFolder
from jax_lbfgs_pi.training.log import OuterRecord

PI = "L-BFGS-π"
PAPERS = ("ADAM", "RMSProp", "L-BFGS-B", "L-BFGS-BTLS")
COSTS = ("iterations", "num_evals", "seconds")
GRAD_LEVELS = ("1e-3", "1e-4", "1e-5", "1e-6", "1e-7", "1e-8")
VALUE_LEVELS = ("2e0", "1e0", "1e-1", "1e-2", "1e-3")
TARGETS = (*(f"‖g‖<{level}" for level in GRAD_LEVELS), *(f"f<{level}" for level in VALUE_LEVELS))


def make_run(values, norms=None, evals=None, seconds=None, status=lp.Status.MAX_ITERS):
    """A run with these values of f."""
    values = np.array(values, float)
    num = len(values)
    return Run(
        value=values,
        grad_norm=np.full(num, 1.0) if norms is None else np.array(norms, float),
        step_size=np.append(0.5 ** np.arange(num - 1), np.nan),
        num_evals=np.arange(1, num + 1) if evals is None else np.array(evals),
        seconds=0.5 * np.arange(1, num + 1) if seconds is None else np.array(seconds, float),
        status=int(status),
    )


def random_run(*key):
    """A run that depends on `key` alone: f falls from 4, ‖g‖ from 1, by random factors."""
    rng = np.random.default_rng(zlib.crc32(repr(key).encode()))
    num = int(rng.integers(4, 12))
    falls = np.cumprod(np.append(1.0, 10.0 ** -rng.uniform(0, 2, num)))
    return make_run(
        4.0 * falls ** rng.uniform(0.2, 1.0),
        norms=falls * 10.0 ** rng.uniform(-0.3, 0.3, num + 1),
        evals=np.cumsum(rng.integers(1, 4, num + 1)),
        seconds=np.cumsum(rng.uniform(0.01, 0.1, num + 1)),
    )


def plain_row(run, task, optimizer, plateau_value):
    """`row_of` by plain loops."""
    num = len(run.value)
    row = {
        "task": task,
        "optimizer": optimizer,
        "status": run.status,
        "iterations": num - 1,
        "num_evals": run.num_evals[num - 1],
        "seconds": run.seconds[num - 1],
        "min_value": math.inf,
        "final_value": run.value[num - 1],
        "plateau": 0,
    }
    for value in run.value:
        if math.isfinite(value) and value < row["min_value"]:
            row["min_value"] = value
    for k in range(num):
        if run.grad_norm[k] < 1e-5:
            row["plateau"] = 1 if run.value[k] > plateau_value else 0
            break
    for target in TARGETS:
        symbol, level = target.split("<")
        series = run.grad_norm if symbol == "‖g‖" else run.value
        found = (math.inf, math.inf, math.inf)
        for k in range(num):
            if series[k] < float(level):
                found = (k, run.num_evals[k], run.seconds[k])
                break
        row |= {f"{cost} to {target}": found[i] for i, cost in enumerate(COSTS)}
    return row


def make_row(task, optimizer, **entries):
    """A row that meets no target, but for the entries given: `evals={"‖g‖<1e-3": 5}` too."""
    row = {
        "task": task,
        "optimizer": optimizer,
        "status": 2,
        "iterations": 3,
        "num_evals": 4,
        "seconds": 0.5,
        "min_value": 1.0,
        "final_value": 1.0,
        "plateau": 0,
    }
    row |= {f"{cost} to {target}": math.inf for target in TARGETS for cost in COSTS}
    for name, costs in (("num_evals", entries.pop("evals", {})),
                        ("seconds", entries.pop("times", {}))):  # fmt: skip
        row |= {f"{name} to {target}": cost for target, cost in costs.items()}
    assert set(entries) <= set(row)
    return row | entries


def without_seconds(row):
    """What does not depend on the clock."""
    return {name: value for name, value in row.items() if not name.startswith("seconds")}


def records_of(costs, target="‖g‖<1e-3"):
    """Records of `{optimizer: evaluations to the target, task by task}`."""
    return Records(
        make_row(task, name, evals={target: cost}, times={target: 0.1 * cost})
        for name, column in costs.items()
        for task, cost in enumerate(column)
        if cost is not None
    )


def fill_race(out, race, rows):
    """Writes rows as the records of a race."""
    folder = RunFolder(out / "records" / race)
    for row in rows:
        folder.save(make_run([1.0]), row, curve=False)


def write_log(folder, **fields):
    """A log of one record for each entry of the fields' lists."""
    folder.mkdir(parents=True)
    num = len(next(iter(fields.values())))
    base = {f.name: 0.0 for f in dataclasses.fields(OuterRecord)} | {
        "tasks": [0], "epoch": 0, "group": 0, "unroll": 0, "num_skipped": 0, "tau_min": -3.0
    }  # fmt: skip
    lines = [json.dumps(base | {"step": i} | {k: v[i] for k, v in fields.items()})
             for i in range(num)]  # fmt: skip
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")


def index_images(num, shape):
    """Images whose first two bytes tell their index; the label is the index modulo ten."""
    images = np.zeros((num, *shape), np.uint8)
    index = np.arange(num)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = index // 256, index % 256
    return {"images": images, "labels": (index % 10).astype(np.int32)}


def indices(images):
    """What `index_images` wrote, from images in [0, 1] or as bytes."""
    pixels = np.asarray(images)
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels * 255)
    return pixels[..., 0, 0, 0].astype(int) * 256 + pixels[..., 0, 1, 0].astype(int)
