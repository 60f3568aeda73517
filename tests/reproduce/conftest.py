"""Fixtures of several tests of the reproduction."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.cli import main
from jax_lbfgs_pi.reproduce import artefacts, grids, race_runs, races, trainings
from jax_lbfgs_pi.reproduce.races import RACES
from jax_lbfgs_pi.reproduce.trainings import TRAININGS
from jax_lbfgs_pi.training.log import MetaTrainLog, OuterRecord
from tests.reproduce.helpers import (
    PNG,
    Runner,
    small_tasks,
)


@pytest.fixture
def runner(monkeypatch):
    """No run of a race or grid costs anything, nor does a task; the policies are hand-set ones."""
    fake = Runner()
    for module in (race_runs, grids):
        monkeypatch.setattr(module, "make_runner", fake)
    for module in (races, grids):
        monkeypatch.setattr(module, "get_tasks", small_tasks)
    for name, race in RACES.items():
        policies = {n: p if p in TRAININGS else "cosine" for n, p in race.policies.items()}
        monkeypatch.setitem(RACES, name, dataclasses.replace(race, policies=policies))
    return fake


@pytest.fixture
def trainer(monkeypatch):
    """In place of `meta_train`: notes what it was asked for, and writes a log of three steps."""
    asked = []

    def meta_train(tasks, config, *, policy, checkpoint_dir, on_step):
        asked.append((tasks.name, len(tasks), config, policy))
        records = []
        for step in range(3):
            records.append(
                OuterRecord(
                    step=step,
                    epoch=0,
                    group=0,
                    unroll=step % 2,
                    tasks=[0],
                    loss=3.0 - step,
                    last_value=1.0,
                    grad_norm=1.0,
                    num_skipped=0,
                    tau_min=-3.0,
                    tau_max=0.01 * step,
                    seconds=0.1,
                )
            )
        settings = {"config": dataclasses.asdict(config), "tasks": f"{tasks.name}, {len(tasks)}"}
        folder = Path(checkpoint_dir)
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / "3").write_text("")
        path = folder / "settings.json"
        if path.is_file() and json.loads(path.read_text()) != settings:
            raise ValueError("The folder holds a run with other settings or tasks.")
        path.write_text(json.dumps(settings))
        lines = [json.dumps(dataclasses.asdict(record)) + "\n" for record in records]
        (folder / "log.jsonl").write_text("".join(lines))
        if on_step is not None:
            for record in records:
                on_step(record)
        return policy or lp.cosine_policy(), MetaTrainLog(records)

    monkeypatch.setattr(trainings, "meta_train", meta_train)
    monkeypatch.setattr(trainings, "get_tasks", small_tasks)
    cifar = dataclasses.replace(TRAININGS["cifar"], start="cosine")
    monkeypatch.setitem(TRAININGS, "cifar", cifar)
    return asked


@pytest.fixture
def drawn(monkeypatch):
    """The figures that artefacts make, by file; they are not rendered, which takes seconds each."""
    figures = {}

    def save_figure(figure, path):
        figures[path.name] = figure
        path.write_bytes(PNG)
        return path

    def clip_derivatives(distances):
        figures["distances"] = distances
        return {"implicit": np.where(distances < 0, 1.0, 0.0)}

    monkeypatch.setattr(artefacts, "save_figure", save_figure)
    monkeypatch.setattr(artefacts, "clip_derivatives", clip_derivatives)
    return figures


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs `lbfgs-pi reproduce`: exit status, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)

    def run(*argv):
        capsys.readouterr()
        try:
            status = main(["reproduce", *(str(arg) for arg in argv)])
        except SystemExit as end:  # argparse's
            status = end.code
        return status, *capsys.readouterr()

    return run
