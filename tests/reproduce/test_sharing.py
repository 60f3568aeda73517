"""Processes that share a folder, and whole processes that are killed."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jax_lbfgs_pi.cli import main
from jax_lbfgs_pi.cli import reproduce as cli_reproduce
from jax_lbfgs_pi.locks import alone
from jax_lbfgs_pi.reproduce import artefacts, grids, trainings
from jax_lbfgs_pi.reproduce.artefacts import ARTEFACTS
from jax_lbfgs_pi.reproduce.races import RACES
from jax_lbfgs_pi.reproduce.records import RunFolder
from jax_lbfgs_pi.reproduce.trainings import TRAININGS, run_training
from jax_lbfgs_pi.training.log import read_log
from tests.command_line import strict_json
from tests.hand_made import (
    without_seconds,
)
from tests.reproduce.helpers import PNG, SETTINGS, convex_runs, facts, keys


def meet(work):
    """Calls `work` from two threads, the second when the first is in; both results.

    `work` gets what it is to call once it is in, which returns when the other one waits.
    """
    inside, waits = threading.Event(), threading.Event()

    def hold(*args):
        inside.set()
        assert waits.wait(20)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(work, hold, None)
        assert inside.wait(20)
        second = pool.submit(work, lambda *args: None, waits.set)
        return first.result(20), second.result(20)


def test_one_trains_and_the_other_waits_for_it(trainer, tmp_path):
    def train(inside, on_wait):
        options = {} if on_wait is None else {"on_wait": on_wait}
        return run_training(TRAININGS["limits"], tmp_path, on_step=inside, **options)

    mine, theirs = meet(train)
    assert len(trainer) == 1
    assert facts(mine) == facts(theirs) == facts(read_log(tmp_path / "trainings" / "limits"))


def test_one_runs_the_grids_and_the_other_waits_for_them(runner, tmp_path):
    def run(inside, on_wait):
        options = {} if on_wait is None else {"on_wait": on_wait}
        return grids.run_grids(tmp_path, num_tasks=1, on_run=inside, **options).rows()

    mine, theirs = meet(run)
    assert sorted(runner.pairs()) == sorted((0, name) for name in SETTINGS)
    assert mine == theirs


def test_what_another_process_is_at_comes_last(command, trainer, tmp_path, monkeypatch):
    """A training that is held is left for the end, and the progress bar says why."""
    bars, held = [], contextlib.ExitStack()
    meta_train, make_bar = trainings.meta_train, cli_reproduce.make_bar

    def train(tasks, config, **options):
        if config.clip_layer == "straight_through":  # the last of four
            assert bars[0].tasks[0].description == "layer-cvx (another process)"
            held.close()
        return meta_train(tasks, config, **options)

    monkeypatch.setattr(trainings, "meta_train", train)
    monkeypatch.setattr(cli_reproduce, "make_bar", lambda: bars.append(make_bar()) or bars[0])
    monkeypatch.setattr(artefacts, "clip_derivatives", lambda distances: {"implicit": distances})
    held.enter_context(alone(tmp_path, "layer-cvx"))
    status, _, err = command("cvx-layer", "--tasks", 1, "--out", tmp_path)
    assert status == 0
    layers = ["implicit", "clip", "straight_through", "cvx"]
    assert [asked[2].clip_layer for asked in trainer] == layers
    assert "another process" not in err  # when all is done, nobody is


def test_packing_waits_for_packing(command, runner, drawn, tmp_path):
    """Two at once would each leave out what the other has taken away."""
    assert command("convex", "--tasks", 1, "--out", tmp_path)[0] == 0
    loose = sorted((tmp_path / "records").rglob("*/*.json"))
    with ThreadPoolExecutor() as pool:
        with alone(tmp_path, "pack"):
            packing = pool.submit(main, ["reproduce", "claims", "--pack", "--out", str(tmp_path)])
            with pytest.raises(TimeoutError):
                packing.result(1)
            assert sorted((tmp_path / "records").rglob("*/*.json")) == loose
        assert packing.result(20) == 0
    assert not list((tmp_path / "records").glob("*/*/*.json"))


HOLD = """
import pathlib, sys, time
from jax_lbfgs_pi.locks import alone
with alone(pathlib.Path(sys.argv[1]), "limits"):
    print("in", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_holds_nothing(tmp_path):
    def in_the_way():
        raise TimeoutError

    argv = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        with pytest.raises(TimeoutError), alone(tmp_path, "limits", in_the_way):
            pass
        with alone(tmp_path, "cifar", in_the_way), alone(tmp_path / "other", "limits", in_the_way):
            pass
        process.send_signal(signal.SIGKILL)
    with alone(tmp_path, "limits", in_the_way):
        pass


LBFGS_PI = "import sys; from jax_lbfgs_pi.cli import main; sys.exit(main())"


def process(*argv, cache):
    return subprocess.Popen(
        [sys.executable, "-c", LBFGS_PI, "reproduce", *map(str, argv)],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*argv, cache):
    running = process(*argv, cache=cache)
    out, err = running.communicate()
    assert running.returncode == 0, err[-3000:]
    return out


def rows_of(out):
    return {
        race: [without_seconds(row) for row in RunFolder(out / "records" / race).rows()]
        for race in ("quadratic", "logistic")
    }


@pytest.mark.slow
def test_killed_at_ten_random_moments_the_records_are_the_same(tmp_path):
    """SIGKILL, which no handler sees, wherever it hits: importing, compiling, running, writing."""
    seed = int(np.random.default_rng().integers(2**32))
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    argv, total = ["convex", "--tasks", "2", "--out"], convex_runs(2)

    def count(out):
        return len(list(out.glob("records/*/*/*.json")))

    finish(*argv, tmp_path / "whole", cache=tmp_path / "cache")
    assert count(tmp_path / "whole") == total
    out, killed = tmp_path / "killed", 0
    for target in sorted(rng.choice(total, size=10, replace=False)):
        running = process(*argv, out, cache=tmp_path / "cache")
        while count(out) < target and running.poll() is None:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.5)))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        killed += running.returncode == -signal.SIGKILL
        assert sum(map(len, rows_of(out).values())) == count(out)  # every file is a whole record
    assert killed >= 8, f"seed {seed}"  # a run may have ended first
    finish(*argv, out, cache=tmp_path / "cache")
    assert count(out) == total
    whole, resumed = rows_of(tmp_path / "whole"), rows_of(out)
    assert sum(map(len, whole.values())) == total
    np.testing.assert_equal(resumed, whole, err_msg=f"seed {seed}")
    for race, rows in whole.items():
        a, b = (RunFolder(folder / "records" / race) for folder in (tmp_path / "whole", out))
        for task, name in keys(rows):
            mine, theirs = a.curve(task, name), b.curve(task, name)
            assert mine is not None
            assert theirs is not None
            for field in ("value", "step_size"):
                np.testing.assert_array_equal(mine[field], theirs[field])
    # What was half written is no record, and does not stop what comes after.
    finish("convex", "--render", "--pack", "--out", out, cache=tmp_path / "cache")
    assert sum(map(len, rows_of(out).values())) == total


@pytest.mark.slow
def test_two_processes_train_once_and_share_the_races(mnist_dir, tmp_path):
    argv, cache = ["convex", "tau-limit", "--tasks", "2", "--out"], tmp_path / "cache"
    finish(*argv, tmp_path / "whole", cache=cache)
    both = [process(*argv, tmp_path / "shared", "--shard", f"{i}/2", cache=cache) for i in (0, 1)]
    for running in both:
        _, err = running.communicate()
        assert running.returncode == 0, err[-3000:]
    np.testing.assert_equal(rows_of(tmp_path / "shared"), rows_of(tmp_path / "whole"))
    whole, shared = (tmp_path / out / "trainings" / "limits" for out in ("whole", "shared"))
    assert facts(read_log(shared)) == facts(read_log(whole))
    policies = {(folder / "policy.safetensors").read_bytes() for folder in (whole, shared)}
    assert len(policies) == 1


@pytest.mark.slow
def test_all_of_it_from_nothing(mnist_dir, cifar_dir, tmp_path):
    """Every race, grid and training for one task, all tables and figures; then nothing again."""
    argv = ["all", "--tasks", "1", "--json", "--out", tmp_path / "out"]
    summary = strict_json(finish(*argv, cache=tmp_path / "cache"))
    assert list(summary["artefacts"]) == list(ARTEFACTS)
    for names in summary["artefacts"].values():
        for name in names:
            content = (tmp_path / "out" / name).read_bytes()
            assert content.startswith(PNG if name.endswith(".png") else b"**")
    for race in RACES.values():
        rows = RunFolder(tmp_path / "out" / "records" / race.name).rows()
        assert {row["task"] for row in rows} == {0}
        names = {row["optimizer"] for row in rows}
        everyone = {*race.policies, *race.against, *race.beside}
        # What the grids tuned as the paper did does not race itself.
        assert {n for n in everyone if "tuned" not in n} <= names <= everyone
        assert all(row["num_evals"] >= row["iterations"] for row in rows)
    records = {p: p.read_bytes() for p in (tmp_path / "out" / "records").rglob("*") if p.is_file()}
    again = strict_json(finish(*argv, cache=tmp_path / "cache"))
    assert again["artefacts"] == summary["artefacts"]
    after = {p: p.read_bytes() for p in (tmp_path / "out" / "records").rglob("*") if p.is_file()}
    assert after == records
