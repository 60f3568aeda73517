import collections
import contextlib
import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jaxlib
import numpy as np
import optax
import pytest
import scipy

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.baselines import ScipyCompetitor, baselines
from jax_lbfgs_pi.cli import main
from jax_lbfgs_pi.cli import reproduce as cli_reproduce
from jax_lbfgs_pi.cli.reproduce import NAMES as CLI_NAMES
from jax_lbfgs_pi.locks import alone
from jax_lbfgs_pi.reproduce import artefacts, claims, grids, race_runs, races, trainings
from jax_lbfgs_pi.reproduce.artefacts import ARTEFACTS
from jax_lbfgs_pi.reproduce.grids import GRIDS, best_settings, score, tuned_competitors
from jax_lbfgs_pi.reproduce.race_runs import count_runs, run_race
from jax_lbfgs_pi.reproduce.races import RACES, Race, competitors
from jax_lbfgs_pi.reproduce.records import Records, RunFolder, row_of
from jax_lbfgs_pi.reproduce.trainings import TRAININGS, Training, run_training
from jax_lbfgs_pi.tasks import quadratic_tasks
from jax_lbfgs_pi.training import MetaTrainConfig
from jax_lbfgs_pi.training.log import MetaTrainLog, OuterRecord, read_log
from jax_lbfgs_pi.versions import versions
from tests import oracles
from tests.hand_made import (
    PAPERS,
    PI,
    make_row,
    make_run,
    plain_row,
    random_run,
    without_seconds,
)

INF = math.inf
PNG = b"\x89PNG\r\n\x1a\n"

# Six tasks at most: π and two competitors on all of them, another policy and SciPy on two.
TINY = Race(
    "tiny",
    "quadratic",
    {PI: "cosine", "unit": "unit"},
    ("ADAM", "L-BFGS-B"),
    beside=("SciPy",),
    num_tasks=4,
    num_beside=2,
    max_iters=30,
    sketch=(2, 20),
)

BASELINES = baselines()


def wanted(num_tasks, num_beside=2):
    """The runs of `TINY`, as a set."""
    everywhere = {(t, n) for t in range(num_tasks) for n in (PI, "ADAM", "L-BFGS-B")}
    return everywhere | {
        (t, n) for t in range(min(num_tasks, num_beside)) for n in ("unit", "SciPy")
    }


def small_tasks(dataset, split, *, size=(1, 20), num_tasks=None, batch_size=1000, data_dir=None):
    """Quadratics of five variables, whatever is asked for, which their name tells."""
    del size, data_dir
    tasks = quadratic_tasks(num_tasks, dim=5, condition=50.0)
    images = "" if batch_size == 1000 else f"-{batch_size}"
    return dataclasses.replace(tasks, name=f"{dataset}-{split}{images}")


class Runner:
    """In place of `make_runner`: runs that depend on the task alone, but for their seconds."""

    def __init__(self):
        self.calls = []  # (data set and split, iterations, task, competitor)

    def __call__(self, tasks, *, max_iters, tol):
        assert tol == 1e-8

        def run_one(index, competitor):
            assert 0 <= index < len(tasks)
            self.calls.append((tasks.name, max_iters, index, competitor.name))
            run = random_run(tasks.name, index, competitor.name)
            return dataclasses.replace(run, seconds=run.seconds * (1 + 0.01 * len(self.calls)))

        return run_one

    def pairs(self):
        return [call[2:] for call in self.calls]


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


def keys(rows):
    return [(row["task"], row["optimizer"]) for row in rows]


# --- limits of races and trainings ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_tasks", "expected"),
    [
        (None, (100, 800)),
        (1, (1, 20)),
        (2, (2, 20)),
        (5, (2, 20)),
        (9, (2, 20)),
        (10, (10, 800)),
        (100, (100, 800)),
        (10**6, (100, 800)),
    ],
)
def test_limits_of_a_race(num_tasks, expected):
    race = Race("a", "mnist", {}, (), num_tasks=100, max_iters=800, sketch=(2, 20))
    assert race.limits(num_tasks) == expected


@pytest.mark.parametrize(("num_tasks", "expected"), [(None, (3, 8)), (1, (1, 8)), (5, (5, 8)),
                                                     (10, (3, 8)), (10**6, (3, 8))])  # fmt: skip
def test_no_sketch_is_longer_than_the_race(num_tasks, expected):
    race = Race("a", "mnist", {}, (), num_tasks=3, max_iters=8, sketch=(10, 800))
    count, max_iters = race.limits(num_tasks)
    assert max_iters == expected[1]
    assert count == min(expected[0], 5 if num_tasks == 5 else 3)


@pytest.mark.parametrize("race", RACES.values(), ids=RACES)
def test_limits_of_the_races(race):
    assert race.limits(None) == race.limits(10**6) == (race.num_tasks, 800)
    assert race.limits(10) == (10, 800)
    for num_tasks in range(1, 10):
        count, max_iters = race.limits(num_tasks)
        assert 1 <= count <= num_tasks
        assert 1 <= max_iters <= 800


def test_the_races_are_the_papers():
    """SPEC §7: test tasks, K = 800 or ‖g‖ < 1e-8, three sizes of the MLP and the CNN."""
    assert races.TOLERANCE == 1e-8
    sizes = {name: race.size for name, race in RACES.items() if race.dataset == "mnist"}
    assert sizes == {"mnist-1x20": (1, 20), "mnist-2x400": (2, 400), "mnist-4x800": (4, 800)}
    assert {race.dataset for race in RACES.values()} == {
        "mnist",
        "cifar10",
        "quadratic",
        "logistic",
    }
    for name, race in RACES.items():
        assert race.name == name
        assert race.against == PAPERS
        assert race.split == "test"
        assert next(iter(race.policies)) == PI
    assert RACES["mnist-1x20"].num_tasks == 1000
    assert RACES["cifar10"].policies["L-BFGS-π_C"] == "cifar"
    assert RACES["cifar10-100"].policies["L-BFGS-π_C"] == "cifar-100"
    sizes = {name: race.batch_size for name, race in RACES.items()}
    assert sizes == dict.fromkeys(RACES, 1000) | {"cifar10-100": 100}


@pytest.mark.parametrize("num_tasks", [None, 10, 10**6])
def test_settings_of_a_training_in_full(num_tasks):
    for training in TRAININGS.values():
        assert training.settings(num_tasks) == (training.config, training.num_tasks)


@pytest.mark.parametrize("num_tasks", [1, 5, 9])
def test_settings_of_a_training_in_form(num_tasks):
    for training in TRAININGS.values():
        config, count = training.settings(num_tasks)
        assert count == num_tasks
        assert config.num_epochs == 1
        same = {"clip_layer", "learn_limits", "loss", "optimizer", "learning_rate", "freeze_grads"}
        for name in same:
            assert getattr(config, name) == getattr(training.config, name)
    training = Training("a", MetaTrainConfig(seed=3), sketch={"unroll_length": 7})
    config, _ = training.settings(num_tasks)
    assert config == MetaTrainConfig(seed=3, unroll_length=7)


def test_the_trainings_are_the_papers():
    """SPEC §7: π_C goes on for 10 epochs on 10 batches; limits can be learned; the four layers."""
    paper = MetaTrainConfig()
    cifar = TRAININGS["cifar"]
    assert (cifar.dataset, cifar.num_tasks, cifar.config) == (
        "cifar10", 10, dataclasses.replace(paper, num_epochs=10),
    )  # fmt: skip
    assert cifar.start is not None
    assert TRAININGS["cifar-100"] == dataclasses.replace(cifar, name="cifar-100", batch_size=100)
    limits = TRAININGS["limits"]
    assert limits.config.learn_limits
    assert (limits.num_tasks, limits.config.num_epochs, limits.start) == (60, 50, None)
    layers = {
        name: TRAININGS[folder].config.clip_layer for name, folder in trainings.LAYERS.items()
    }
    assert layers == {n: n for n in ("cvx", "implicit", "clip", "straight_through")}
    for name, training in TRAININGS.items():
        assert training.name == name


# --- races ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_tasks", "count", "max_iters"), [(None, 4, 30), (1, 1, 20), (5, 2, 20), (12, 4, 30)]
)
def test_a_race_runs_what_it_should(runner, tmp_path, num_tasks, count, max_iters):
    told = []
    folder = run_race(TINY, tmp_path, num_tasks=num_tasks, on_run=told.append)
    assert sorted(runner.pairs()) == sorted(wanted(count))
    assert [name for _, name in runner.pairs()] == told
    assert [task for task, _ in runner.pairs()] == sorted(task for task, _ in wanted(count))
    assert {call[:2] for call in runner.calls} == {("quadratic-test", max_iters)}
    assert keys(folder.rows()) == sorted(wanted(count))
    assert folder.folder == tmp_path / "records" / "tiny"
    assert count_runs(TINY, tmp_path, num_tasks, (0, 1)) == len(told)


def test_rows_and_curves_of_a_race_are_its_runs(runner, tmp_path):
    folder = run_race(TINY, tmp_path)
    for row in folder.rows():
        task, name = row["task"], row["optimizer"]
        run = random_run("quadratic-test", task, name)
        np.testing.assert_equal(
            without_seconds(row), without_seconds(plain_row(run, task, name, 2.2))
        )
        curve = folder.curve(task, name)
        assert curve is not None
        np.testing.assert_array_equal(curve["value"], np.float32(run.value))


@pytest.mark.parametrize("plateau_value", [2.2, INF])
def test_a_race_marks_its_own_plateaus(runner, tmp_path, monkeypatch, plateau_value):
    stuck = make_run([4.0, 2.3], norms=[1.0, 1e-9])
    monkeypatch.setattr(race_runs, "make_runner", lambda *a, **k: lambda index, competitor: stuck)
    race = dataclasses.replace(TINY, plateau_value=plateau_value)
    rows = run_race(race, tmp_path).rows()
    assert {row["plateau"] for row in rows} == {int(plateau_value == 2.2)}
    # On convex tasks f has no such level.
    assert {r.name: r.plateau_value for r in RACES.values() if r.plateau_value == INF} == {
        "quadratic": INF, "logistic": INF,
    }  # fmt: skip


def test_whole_curves_are_kept_of_ten_tasks(runner, tmp_path):
    race = dataclasses.replace(TINY, num_tasks=12, beside=(), against=("ADAM",))
    folder = run_race(race, tmp_path)
    assert [t for t in range(12) if folder.curve(t, PI) is not None] == list(range(10))
    assert len(folder.rows()) == 2 * 12 + 2


def test_a_finished_race_is_not_run_again(runner, tmp_path):
    folder = run_race(TINY, tmp_path)
    before = folder.rows()
    runner.calls.clear()
    told = []
    assert run_race(TINY, tmp_path, on_run=told.append).rows() == before  # the seconds too
    assert runner.calls == []
    # A progress bar sees those that were there.
    assert collections.Counter(told) == collections.Counter(name for _, name in wanted(4))


def test_a_packed_race_is_not_run_again(runner, tmp_path):
    run_race(TINY, tmp_path).pack()
    before = RunFolder(tmp_path / "records" / "tiny").rows()
    runner.calls.clear()
    assert run_race(TINY, tmp_path).rows() == before
    assert runner.calls == []
    # And goes on where it was packed.
    more = dataclasses.replace(TINY, num_tasks=5)
    assert keys(run_race(more, tmp_path).rows()) == sorted(wanted(5))
    assert sorted(runner.pairs()) == sorted(wanted(5) - wanted(4))


def test_more_tasks_add_to_a_race(runner, tmp_path):
    race = dataclasses.replace(TINY, sketch=(10, 30))
    run_race(race, tmp_path, num_tasks=1)
    run_race(race, tmp_path, num_tasks=3)
    assert keys(run_race(race, tmp_path).rows()) == sorted(wanted(4))
    assert sorted(runner.pairs()) == sorted(wanted(4))  # nothing twice


def test_interrupted_at_every_position_and_resumed(runner, tmp_path):
    """Whichever run it was, the records are those of a race in one go, and none is made twice."""
    whole = run_race(TINY, tmp_path / "whole").rows()
    total = len(wanted(4))
    assert total == 16
    for position in range(total):
        out, left = tmp_path / str(position), [position]
        runner.calls.clear()

        def interrupt(name, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1

        with pytest.raises(KeyboardInterrupt):
            run_race(TINY, out, on_run=interrupt)
        assert len(runner.calls) == position + 1
        resumed = run_race(TINY, out).rows()
        assert sorted(runner.pairs()) == sorted(wanted(4))
        assert [without_seconds(row) for row in resumed] == [without_seconds(row) for row in whole]


def test_interrupted_again_and_again(runner, tmp_path):
    """Killed in every run, before it is saved and after, until nothing is left to do."""
    whole = run_race(TINY, tmp_path / "whole").rows()
    runner.calls.clear()
    save, starts = RunFolder.save, 0

    class Killed(BaseException):
        pass

    def killed_save(self, run, row, *, curve):
        if starts % 2:
            raise Killed
        save(self, run, row, curve=curve)
        raise Killed

    while starts < 100:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunFolder, "save", killed_save)
            try:
                rows = run_race(TINY, tmp_path / "killed").rows()
                break
            except Killed:
                starts += 1
    assert starts == 31  # of 16 runs, all but the first once in vain
    assert collections.Counter(runner.pairs()) == {
        pair: 1 if pair == (0, PI) else 2 for pair in wanted(4)
    }
    assert [without_seconds(row) for row in rows] == [without_seconds(row) for row in whole]


@pytest.mark.parametrize("num_shards", [2, 3, 7])
def test_shards_together_are_the_race(runner, tmp_path, num_shards):
    whole = run_race(TINY, tmp_path / "whole").rows()
    shares = []
    for i in range(num_shards):
        runner.calls.clear()
        told = []
        run_race(TINY, tmp_path / "shared", shard=(i, num_shards), on_run=told.append)
        shares.append(set(runner.pairs()))
        assert len(runner.pairs()) == len(shares[-1])
        assert {task % num_shards for task, _ in shares[-1]} <= {i}
        assert count_runs(TINY, tmp_path, None, (i, num_shards)) == len(told) == len(shares[-1])
    for a, b in itertools.combinations(shares, 2):
        assert not a & b
    assert set().union(*shares) == wanted(4)
    rows = RunFolder(tmp_path / "shared" / "records" / "tiny").rows()
    assert [without_seconds(row) for row in rows] == [without_seconds(row) for row in whole]


def test_records_of_real_runs_are_those_of_plain_loops(monkeypatch, tmp_path):
    """L-BFGS-B, and L-BFGS-π with the cosine of the angle, in NumPy."""
    monkeypatch.setattr(races, "get_tasks", small_tasks)
    race = Race("real", "quadratic", {PI: "cosine"}, ("L-BFGS-B",), num_tasks=2, max_iters=25,
                plateau_value=INF)  # fmt: skip
    rows = {(row["task"], row["optimizer"]): row for row in run_race(race, tmp_path).rows()}
    assert set(rows) == set(itertools.product((0, 1), (PI, "L-BFGS-B")))
    for task in range(2):
        data, x0 = small_tasks("", "", num_tasks=2)[task]
        A, c, x0 = (np.asarray(leaf) for leaf in (data["A"], data["c"], x0))
        for name in (PI, "L-BFGS-B"):
            values, norms, x, pairs = [], [], x0, []
            for _ in range(26):
                g = A @ (x - c)
                values.append(0.5 * (x - c) @ g)
                norms.append(np.linalg.norm(g))
                if norms[-1] < 1e-8:
                    break
                d = oracles.two_loop(pairs, g)
                products = [max(p, 1e-8) for p in (-d @ g, d @ d, g @ g)]
                cosine = products[0] / math.sqrt(products[1] * products[2])
                t = np.clip(cosine, math.exp(-3), 1.0) if name == PI else 1.0
                pairs = [*pairs, (t * d, t * A @ d)][-5:]
                x = x + t * d
            row = rows[task, name]
            expected = plain_row(make_run(values, norms=norms), task, name, INF)
            assert row["iterations"] == expected["iterations"]
            assert row["num_evals"] == expected["num_evals"]
            assert row["status"] == (1 if norms[-1] < 1e-8 else 2)
            for key in row:
                if key.startswith(("num_evals to", "iterations to")):
                    assert row[key] == expected[key], key
            np.testing.assert_allclose(row["min_value"], min(values), atol=1e-9 * values[0])
            assert row["num_evals to ‖g‖<1e-5"] < INF


# --- what must not be mixed -----------------------------------------------------------------------

OTHERS = {
    "another policy": {"policies": {PI: "unit", "unit": "unit"}},
    "another policy beside": {"policies": {PI: "cosine", "unit": "cosine"}},
    "other iterations": {"max_iters": 31},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("packed", [False, True])
def test_records_of_another_race_are_refused(runner, tmp_path, change, packed):
    folder = run_race(TINY, tmp_path)
    if packed:
        folder.pack()
    before = {p: p.read_bytes() for p in folder.folder.rglob("*") if p.is_file()}
    runner.calls.clear()
    other = dataclasses.replace(TINY, **change)
    with pytest.raises(ValueError, match=r"^The folder '.*tiny' holds records of another race or"):
        run_race(other, tmp_path)
    assert runner.calls == []
    assert {p: p.read_bytes() for p in folder.folder.rglob("*") if p.is_file()} == before


def test_a_sketch_is_not_mixed_with_the_race(runner, tmp_path):
    """Below ten tasks the iterations are fewer."""
    run_race(TINY, tmp_path, num_tasks=2)
    with pytest.raises(ValueError, match="holds records of another race"):
        run_race(TINY, tmp_path)
    assert keys(RunFolder(tmp_path / "records" / "tiny").rows()) == sorted(wanted(2))


def test_another_tolerance_is_refused(runner, tmp_path, monkeypatch):
    run_race(TINY, tmp_path)
    monkeypatch.setattr(race_runs, "TOLERANCE", 1e-6)
    with pytest.raises(ValueError, match="holds records of another race"):
        run_race(TINY, tmp_path)


def test_a_policy_can_join_a_race_and_is_held_to_after(runner, tmp_path):
    alone = dataclasses.replace(TINY, policies={PI: "cosine"})
    run_race(alone, tmp_path)
    run_race(TINY, tmp_path)
    run_race(alone, tmp_path)
    with pytest.raises(ValueError, match="holds records of another race"):
        run_race(dataclasses.replace(TINY, policies={PI: "cosine", "unit": "cosine"}), tmp_path)


def test_a_policy_trained_anew_is_refused(runner, tmp_path, monkeypatch):
    """Under one path, it is another policy."""
    monkeypatch.setitem(TRAININGS, "mine", Training("mine", MetaTrainConfig()))
    race = dataclasses.replace(TINY, policies={PI: "cosine", "π_C": "mine"})
    with pytest.raises(ValueError, match=r"^Unknown policy '.*trainings/mine/policy.safetensors'"):
        run_race(race, tmp_path)
    path = trainings.policy_path(tmp_path, "mine")
    lp.save_policy(lp.constant_policy(0.5), path)
    run_race(race, tmp_path)
    assert races.policies_of(race, tmp_path)["π_C"].limits == lp.load_policy(path).limits
    run_race(race, tmp_path)
    lp.save_policy(lp.constant_policy(0.25), path)
    with pytest.raises(ValueError, match="holds records of another race"):
        run_race(race, tmp_path)


def provenance_of(out, race="tiny"):
    return json.loads((out / "records" / race / "race.json").read_text()).get("provenance")


def test_a_race_says_which_versions_made_it(runner, tmp_path):
    def today():
        return datetime.datetime.now(datetime.UTC).date().isoformat()

    before = today()
    run_race(TINY, tmp_path)
    (entry,) = provenance_of(tmp_path)
    assert before <= entry.pop("date") <= today()
    entry.pop("commit", None)  # tested with the versions
    assert entry == {
        "jax_lbfgs_pi": importlib.metadata.version("jax_lbfgs_pi"),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def test_other_versions_go_on_with_a_race_and_are_noted(runner, tmp_path, monkeypatch):
    """Once each, and only where they add a record."""
    path = tmp_path / "records" / "tiny" / "race.json"
    for version, count in (("1", 1), ("1", 2), ("2", 2), ("2", 3), ("1", 4)):
        monkeypatch.setattr(race_runs, "versions", lambda v=version: {"jax": v})
        run_race(dataclasses.replace(TINY, num_tasks=count), tmp_path)
        if (version, count) == ("2", 2):  # all was there
            assert [entry["jax"] for entry in provenance_of(tmp_path)] == ["1"]
    assert [entry["jax"] for entry in provenance_of(tmp_path)] == ["1", "2"]
    before = path.read_bytes()
    run_race(TINY, tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("race", ["quadratic", "logistic"])
def test_shipped_races_are_gone_on_with_by_other_versions(tmp_path, monkeypatch, race):
    monkeypatch.setattr(race_runs, "make_runner", Runner())
    monkeypatch.setattr(races, "get_tasks", small_tasks)
    shipped = Path(__file__).parent.parent / "reproduction" / "records" / race
    folder = shutil.copytree(shipped, tmp_path / "records" / race)
    before = (folder / "race.json").read_bytes()
    run_race(RACES[race], tmp_path)
    assert (folder / "race.json").read_bytes() == before  # nothing was missing
    made_by = provenance_of(tmp_path, race)
    run_race(dataclasses.replace(RACES[race], num_tasks=101), tmp_path)
    *earlier, newest = provenance_of(tmp_path, race)
    assert earlier == made_by
    assert newest.items() >= versions().items()
    after = json.loads((folder / "race.json").read_text())
    assert after | {"provenance": made_by} == json.loads(before)


def test_who_takes_part(runner, tmp_path):
    entrants = competitors(TINY, tmp_path)
    assert {name: most for name, (_, most) in entrants.items()} == {
        PI: 4, "unit": 2, "ADAM": 4, "L-BFGS-B": 4, "SciPy": 2
    }  # fmt: skip
    for name, (competitor, _) in entrants.items():
        assert competitor.name == name
    assert isinstance(entrants["SciPy"][0], ScipyCompetitor)
    assert entrants["ADAM"][0] is BASELINES["ADAM"]


@pytest.mark.parametrize("where", ["against", "beside"])
@pytest.mark.parametrize("name", ["scipy", "L-BFGS-B, tuned"])
def test_an_unknown_competitor_is_not_left_out(runner, tmp_path, where, name):
    race = dataclasses.replace(TINY, **{where: ("ADAM", name)})
    with pytest.raises(ValueError, match=f"^The race 'tiny' has the unknown competitor '{name}': "):
        run_race(race, tmp_path)
    assert runner.calls == []


# --- grids ----------------------------------------------------------------------------------------

SETTINGS = [name for grid in GRIDS.values() for name in grid]


def test_the_grids_are_the_papers():
    """SPEC §6: {1,3}×10^{-3..-1} and {.25,.5,.75}²."""
    rates = ("0.001", "0.003", "0.01", "0.03", "0.1", "0.3")
    assert list(GRIDS["ADAM"]) == [f"ADAM lr={rate}" for rate in rates]
    assert list(GRIDS["RMSProp"]) == [f"RMSProp lr={rate}" for rate in rates]
    shares = ("0.25", "0.5", "0.75")
    assert sorted(GRIDS["L-BFGS-BTLS"]) == sorted(
        f"BTLS c1={a} c2={b}" for a in shares for b in shares
    )
    for grid in GRIDS.values():
        for name, competitor in grid.items():
            assert competitor.name == name


@pytest.mark.parametrize("optimizer", ["ADAM", "RMSProp"])
def test_settings_are_what_their_names_say(optimizer):
    """The first step from a gradient of ones: lr for ADAM, lr/√0.01 for RMSProp."""
    for name, competitor in GRIDS[optimizer].items():
        tx = competitor.make()
        step, _ = tx.update(np.ones(2), tx.init(np.zeros(2)), np.zeros(2))
        rate = float(name.split("=")[1]) * (10.0 if optimizer == "RMSProp" else 1.0)
        np.testing.assert_allclose(step, -rate, rtol=1e-6)


@pytest.mark.parametrize("name", ["BTLS c1=0.75 c2=0.25"])
def test_searches_are_what_their_names_say(name):
    """The first step on ½a x² from x = 1 has the first t of 1, c2, c2².. that achieves c1."""
    c1, c2 = (float(part.split("=")[1]) for part in name.split()[1:])
    tx = GRIDS["L-BFGS-BTLS"][name].make()
    a, t = 12.0, 1.0
    while 0.5 * a * (1 - t * a) ** 2 > 0.5 * a - c1 * t * a**2:
        t *= c2
    assert t < 0.5

    def value_fn(x):
        return 0.5 * a * jax.numpy.sum(x**2)

    x = jax.numpy.ones(1)
    step, _ = tx.update(a * x, tx.init(x), x, value=value_fn(x), grad=a * x, value_fn=value_fn)
    np.testing.assert_allclose(step, -t * a, rtol=1e-6)


@pytest.mark.parametrize(("num_tasks", "count"), [(None, 10), (1, 1), (5, 1), (10, 10), (999, 10)])
def test_grids_run_every_setting_on_training_tasks(runner, tmp_path, num_tasks, count):
    told = []
    folder = grids.run_grids(tmp_path, num_tasks=num_tasks, on_run=told.append)
    expected = sorted(itertools.product(range(count), SETTINGS))
    assert sorted(runner.pairs()) == keys(folder.rows()) == expected
    assert {call[:2] for call in runner.calls} == {("mnist-train", 800)}
    assert len(told) == grids.count_runs(num_tasks) == 21 * count
    assert folder.folder == tmp_path / "records" / "grids"


def test_interrupted_grids_go_on(runner, tmp_path):
    def interrupt(name):
        if len(runner.calls) == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grids.run_grids(tmp_path, on_run=interrupt)
    assert len(RunFolder(tmp_path / "records" / "grids").rows()) == 30
    told = []
    grids.run_grids(tmp_path, on_run=told.append)
    assert len(runner.pairs()) == len(set(runner.pairs())) == len(told) == 210


def plain_score(rows):
    """By hand: mean evaluations to three levels, at most 800; then the mean least f."""
    out = []
    for level in ("1e-5", "1e-4", "1e-3"):
        costs = [
            800.0 if row["plateau"] else min(row[f"num_evals to ‖g‖<{level}"], 800.0)
            for row in rows
        ]
        out.append(sum(costs) / len(costs))
    return (*out, sum(row["min_value"] for row in rows) / len(rows))


def test_scores_by_hand():
    def evals(a, b, c):
        return {"‖g‖<1e-5": a, "‖g‖<1e-4": b, "‖g‖<1e-3": c}

    rows = [
        make_row(0, "a", evals=evals(100.0, 50.0, 20.0), min_value=1e-3),
        make_row(1, "a", evals=evals(INF, 900.0, 40.0), min_value=3e-3),
        make_row(0, "b", evals=evals(10.0, 9.0, 8.0), min_value=2.3, plateau=1),
        make_row(1, "b", evals=evals(INF, INF, INF), min_value=1.0),
    ]
    records = Records(rows)
    assert score(records, "a") == pytest.approx((450.0, 425.0, 30.0, 2e-3))
    assert score(records, "b") == pytest.approx((800.0, 800.0, 800.0, 1.65))
    for name in "ab":
        assert score(records, name) == pytest.approx(
            plain_score([row for row in rows if row["optimizer"] == name])
        )


def grid_records(best, *, levels=3):
    """All settings alike, but the best of each grid, which leads at the `levels`-th level only."""
    order = ["‖g‖<1e-5", "‖g‖<1e-4", "‖g‖<1e-3"]
    rows = []
    for name in SETTINGS:
        evals = dict.fromkeys(order, 100.0)
        entries = {"min_value": 1.0}
        if name in best and levels < 3:
            evals[order[levels]] = 99.0
        elif name in best:
            entries["min_value"] = 0.5
        rows += [make_row(task, name, evals=evals, **entries) for task in range(2)]
    return rows


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_the_best_setting_leads_at_the_first_level_that_differs(levels):
    best = ["ADAM lr=0.1", "RMSProp lr=0.003", "BTLS c1=0.5 c2=0.75"]
    rows = grid_records(best, levels=levels)
    assert list(best_settings(Records(rows)).values()) == best
    # What leads at a level before counts for more.
    order = ["‖g‖<1e-5", "‖g‖<1e-4", "‖g‖<1e-3"]
    if levels > 0:
        for row in rows:
            if row["optimizer"] == "ADAM lr=0.3":
                row[f"num_evals to {order[levels - 1]}"] = 99.0
        assert best_settings(Records(rows))["ADAM"] == "ADAM lr=0.3"


def test_settings_that_tie_are_taken_in_the_grids_order():
    expected = {"ADAM": "ADAM lr=0.001", "RMSProp": "RMSProp lr=0.001",
                "L-BFGS-BTLS": next(iter(GRIDS["L-BFGS-BTLS"]))}  # fmt: skip
    rows = grid_records([])
    assert best_settings(Records(rows)) == best_settings(Records(rows[::-1])) == expected


def test_a_setting_that_diverges_is_not_the_best():
    rows = [
        row if row["optimizer"] == "ADAM lr=0.01"
        else row | {"min_value": INF} | {k: INF for k in row if k.startswith("num_evals to")}
        for row in grid_records([])
    ]  # fmt: skip
    assert best_settings(Records(rows))["ADAM"] == "ADAM lr=0.01"


def fill(out, race, rows):
    folder = RunFolder(out / "records" / race)
    for row in rows:
        folder.save(make_run([1.0]), row, curve=False)


def test_tuned_competitors_are_the_best_of_their_grids(tmp_path):
    fill(
        tmp_path, "grids", grid_records(["ADAM lr=0.1", "RMSProp lr=0.003", "BTLS c1=0.5 c2=0.75"])
    )
    tuned = tuned_competitors(tmp_path / "records")
    assert list(tuned) == ["ADAM, tuned", "RMSProp, tuned", "L-BFGS-BTLS, tuned"]
    for name, rate in (("ADAM, tuned", 0.1), ("RMSProp, tuned", 10 * 0.003)):
        assert tuned[name].name == name
        tx = tuned[name].make()
        step, _ = tx.update(np.ones(2), tx.init(np.zeros(2)), np.zeros(2))
        np.testing.assert_allclose(step, -rate, rtol=1e-6)
    race = dataclasses.replace(TINY, beside=("SciPy", "ADAM, tuned"))
    competitor, most = competitors(race, tmp_path)["ADAM, tuned"]
    assert (competitor.name, most) == ("ADAM, tuned", 2)


def test_no_competitor_is_tuned_whose_best_setting_is_the_papers(tmp_path):
    """It races already, and would race itself."""
    fill(tmp_path, "grids", grid_records(["ADAM lr=0.03", "RMSProp lr=0.01", "BTLS c1=0.5 c2=0.5"]))
    assert list(tuned_competitors(tmp_path / "records")) == ["L-BFGS-BTLS, tuned"]
    race = dataclasses.replace(TINY, beside=("SciPy", "ADAM, tuned", "L-BFGS-BTLS, tuned"))
    entrants = competitors(race, tmp_path)
    assert list(entrants) == [PI, "unit", "ADAM", "L-BFGS-B", "SciPy", "L-BFGS-BTLS, tuned"]


@pytest.mark.parametrize("there", ["nothing", "all but the last", "one"])
def test_tuned_competitors_need_the_grids(tmp_path, there):
    rows = grid_records([])
    fill(tmp_path, "grids", {"nothing": [], "one": rows[:1], "all but the last": rows[:-2]}[there])
    with pytest.raises(FileNotFoundError, match="run `lbfgs-pi reproduce grids` with the same"):
        tuned_competitors(tmp_path / "records")
    with pytest.raises(FileNotFoundError, match="run `lbfgs-pi reproduce grids` with the same"):
        competitors(dataclasses.replace(TINY, beside=("RMSProp, tuned",)), tmp_path)
    assert "ADAM" in competitors(TINY, tmp_path)  # who has no tuned competitor needs no grid


def test_settings_that_ran_on_different_tasks_are_not_compared(tmp_path):
    """Killed amid the second task: those that have run it are judged on two, the others on one."""
    rows = grid_records([])
    fill(tmp_path, "grids", [row for row in rows if row["task"] == 0 or "ADAM" in row["optimizer"]])
    with pytest.raises(FileNotFoundError, match="run `lbfgs-pi reproduce grids` with the same"):
        tuned_competitors(tmp_path / "records")


# --- trainings ------------------------------------------------------------------------------------

SMALL = MetaTrainConfig(
    num_epochs=2, unroll_length=3, unrolls_per_start=2, clip_layer="implicit", learn_limits=True
)


def facts(log):
    return [dataclasses.asdict(record) | {"seconds": 0.0} for record in log.records]


@pytest.fixture
def small_trainings(monkeypatch):
    monkeypatch.setattr(trainings, "get_tasks", small_tasks)


TRAINING = Training("mine", SMALL, dataset="quadratic", num_tasks=3)


def test_a_training_leaves_its_policy_and_its_log(small_trainings, tmp_path):
    told = []
    log = run_training(TRAINING, tmp_path, on_step=told.append)
    assert [record.step for record in told] == list(range(2 * 3 * 2))
    assert {task for record in log.records for task in record.tasks} == {0, 1, 2}
    path = tmp_path / "trainings" / "mine" / "policy.safetensors"
    assert path == trainings.policy_path(tmp_path, "mine")
    policy = lp.load_policy(path)
    assert policy.limits == (told[-1].tau_min, told[-1].tau_max)
    assert policy.limits != (-3.0, 0.0)  # they are learned

    before, again = path.read_bytes(), []
    for found in (run_training(TRAINING, tmp_path, on_step=again.append), read_log(path.parent)):
        assert facts(found) == facts(log) == facts(MetaTrainLog(told))
    assert again == []
    assert path.read_bytes() == before


@pytest.mark.slow
def test_a_training_goes_on_where_it_was_killed(small_trainings, tmp_path):
    whole = run_training(TRAINING, tmp_path / "whole")

    def interrupt(record):
        if record.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(TRAINING, tmp_path / "killed", on_step=interrupt)
    paths = [trainings.policy_path(tmp_path / out, "mine") for out in ("whole", "killed")]
    assert not paths[1].is_file()
    assert facts(run_training(TRAINING, tmp_path / "killed")) == facts(whole)
    assert paths[0].read_bytes() == paths[1].read_bytes()


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


def test_what_is_trained(trainer, tmp_path):
    run_training(TRAININGS["limits"], tmp_path)
    run_training(TRAININGS["cifar"], tmp_path)
    run_training(TRAININGS["layer-clip"], tmp_path / "form", num_tasks=4)
    (limits, cifar, form) = trainer
    assert limits[:3] == ("mnist-train", 60, TRAININGS["limits"].config)
    assert limits[3] is None  # a new policy
    assert cifar[:3] == ("cifar10-train", 10, TRAININGS["cifar"].config)
    assert lp.pretrained.policy_digest(cifar[3]) == lp.pretrained.policy_digest(lp.cosine_policy())
    assert form[:2] == ("mnist-train", 4)
    assert (form[2].num_epochs, form[2].clip_layer) == (1, "clip")


def test_a_training_in_form_is_not_taken_for_the_whole(trainer, tmp_path):
    """As with races: `--tasks 1` and then all of them, in one folder."""
    run_training(TRAININGS["limits"], tmp_path, num_tasks=1)
    with pytest.raises(ValueError, match=r"other settings|another"):
        run_training(TRAININGS["limits"], tmp_path)


def test_a_training_from_another_policy_is_not_taken_for_this_one(trainer, tmp_path):
    """A shipped policy may be another one in the next version: then so is what it is trained to."""
    run_training(TRAININGS["cifar"], tmp_path)
    run_training(TRAININGS["cifar"], tmp_path)
    with pytest.raises(ValueError, match=r"other settings|another"):
        run_training(dataclasses.replace(TRAININGS["cifar"], start="unit"), tmp_path)


def test_packed_trainings_are_read_as_they_were(trainer, tmp_path):
    ended = run_training(TRAININGS["limits"], tmp_path)
    unfinished = tmp_path / "trainings" / "layer-clip"
    shutil.copytree(tmp_path / "trainings" / "limits", unfinished)
    (unfinished / "policy.safetensors").unlink()
    trainings.pack_trainings(tmp_path)
    trainings.pack_trainings(tmp_path)
    folder = tmp_path / "trainings" / "limits"
    names = sorted(path.name for path in folder.iterdir())
    assert "log.jsonl.gz" in names
    assert not {"log.jsonl", "checkpoints"} & set(names)
    assert facts(read_log(folder)) == facts(ended)
    trainer.clear()
    assert facts(run_training(TRAININGS["limits"], tmp_path)) == facts(ended)
    assert trainer == []
    # One that has not ended keeps what it needs to go on.
    assert {"log.jsonl", "checkpoints"} <= {path.name for path in unfinished.iterdir()}
    assert facts(read_log(unfinished)) == facts(ended)


def test_derivatives_of_the_clip_by_every_solver():
    """1 inside, 0 beyond the bound; straight through, 1 everywhere."""
    pytest.importorskip("cvxpylayers", reason="needs the extra 'cvx'")
    pytest.importorskip("moreau", reason="needs the extra 'cvx'")
    distances = np.array([-0.05, 0.05])
    found = trainings.clip_derivatives(distances)
    assert set(found) == {"cvx (Moreau)", "cvx (DIFFCP)", "implicit", "clip", "straight-through"}
    for name, values in found.items():
        expected = np.ones(2) if name == "straight-through" else [1.0, 0.0]
        np.testing.assert_allclose(values, expected, atol=1e-3 if "cvx" in name else 1e-9)
    assert found["implicit"][1] == 0.0


# --- artefacts ------------------------------------------------------------------------------------


def fill_race(out, race, tasks, names=None):
    """Random runs of all that take part in a race."""
    folder = RunFolder(out / "records" / race)
    everyone = [*RACES[race].policies, *RACES[race].against, *RACES[race].beside]
    for name in everyone[::-1] if names is None else names:
        for task in tasks:
            run = random_run(race, task, name)
            folder.save(run, row_of(run, task, name, plateau_value=2.2), curve=True)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A folder with records of everything; artefacts are made in it."""
    out = tmp_path_factory.mktemp("reproduced")
    for race in RACES:
        fill_race(out, race, range(2))
    fill(
        out, "grids", grid_records(["ADAM lr=0.1", "RMSProp lr=0.003", "BTLS c1=0.5 c2=0.75"])[::2]
    )
    for i, name in enumerate(TRAININGS):
        folder = out / "trainings" / name
        folder.mkdir(parents=True)
        record = OuterRecord(0, 0, 0, 0, [0], 10.0 + i, 1.0, 1.0, 0, -3.0, 0.25, 0.5)
        steps = (dataclasses.asdict(record) | {"step": k, "tau_max": 0.1 * k} for k in range(3))
        (folder / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return out


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


def make(out, name):
    artefact = ARTEFACTS[name]
    assert artefact.there(out, artefact.races) == list(artefact.races)
    paths = artefact.make(out, artefact.races)
    assert all(path.is_file() and path.parent == out for path in paths)
    assert all(path.name.startswith(name) for path in paths)
    return {path.name: path for path in paths}


def tables_of(path):
    """Title, header and rows of each table of a file."""
    blocks = path.read_text().split("**")[1:]
    out = []
    for title, block in zip(blocks[::2], blocks[1::2], strict=True):
        lines = [line.strip("|").split("|") for line in block.strip().splitlines()]
        lines = [[cell.strip() for cell in line] for line in lines]
        assert len({len(line) for line in lines}) == 1
        out.append((title, lines[0], lines[2:]))
    return out


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("grids", ["grids.md"]),
        ("table1", ["table1.md"]),
        ("fig3", ["fig3.png"]),
        ("fig4", ["fig4-num_evals.png", "fig4-seconds.png"]),
        ("fig5", ["fig5.md", "fig5.png"]),
        ("fig6", ["fig6.md", "fig6.png"]),
        ("fig7", ["fig7.png"]),
        ("fig8", ["fig8.md", "fig8.png"]),
        ("tau-limit", ["tau-limit.png"]),
        ("convex", ["convex.md", "convex.png"]),
        ("cvx-layer", ["cvx-layer-training.png", "cvx-layer.md", "cvx-layer.png"]),
        ("claims", ["claims.md"]),
    ],
)
def test_files_of_an_artefact(reproduced, drawn, name, files):
    paths = make(reproduced, name)
    assert sorted(paths) == files
    for path in paths.values():
        if path.suffix == ".md":
            assert tables_of(path)
            assert "nan" not in path.read_text()
    assert len(files) == len(set(drawn) - {"distances"}) + len([f for f in files if ".md" in f])


def test_the_names_of_the_command_are_the_artefacts():
    assert list(CLI_NAMES) == list(ARTEFACTS)


def test_every_race_training_and_grid_serves_an_artefact():
    assert {race for a in ARTEFACTS.values() for race in a.races} == set(RACES)
    assert {name for a in ARTEFACTS.values() for name in a.trainings} == set(TRAININGS)
    assert [name for name, artefact in ARTEFACTS.items() if artefact.grids] == ["grids"]
    # Where a tuned competitor or a trained policy takes part, what it needs is made first.
    assert [name for name, race in RACES.items() if race.has_tuned] == ["mnist-1x20"]
    for artefact in ARTEFACTS.values():
        for race in artefact.races:
            assert set(RACES[race].policies.values()) & set(TRAININGS) <= set(artefact.trainings)


def test_records_come_in_the_order_of_the_race(reproduced):
    records = artefacts.records_of(reproduced, "mnist-1x20")
    assert records.optimizers[0] == PI
    assert records.optimizers == [
        *RACES["mnist-1x20"].policies, *PAPERS, "optax.lbfgs", "SciPy", "Prodigy",
        "ADAM, tuned", "RMSProp, tuned", "L-BFGS-BTLS, tuned",
    ]  # fmt: skip
    assert records.tasks(*records.optimizers) == [0, 1]
    with pytest.raises(FileNotFoundError, match=r"^There are no records of 'cifar10' in .*\.$"):
        artefacts.records_of(reproduced / "elsewhere", "cifar10")


def test_table_1_of_records(reproduced, drawn):
    """Every size with its tables; W and T by plain loops over the runs."""
    found = tables_of(make(reproduced, "table1")["table1.md"])
    assert len(found) == 3 * 7
    for i, (race, levels) in enumerate(artefacts.TABLE1_LEVELS.items()):
        mine = found[7 * i : 7 * i + 7]
        assert all(race in title for title, _, _ in mine)
        names = [*RACES[race].policies, *RACES[race].against, *RACES[race].beside]
        for title, _, rows in mine:
            first = title.startswith("Table 1")
            assert [row[0] for row in rows] == [n for n in names if not (first and n == PI)]
        for (title, _, rows), cost in zip(mine, ("seconds", "num_evals"), strict=False):
            assert title.endswith({"seconds": "by seconds", "num_evals": "by evaluations"}[cost])
            for row in rows:
                for j, level in enumerate(levels):
                    costs = [
                        [
                            plain_row(random_run(race, t, n), t, n, 2.2)[
                                f"{cost} to ‖g‖<1e-{round(-math.log10(level))}"
                            ]
                            for t in range(2)
                        ]
                        for n in (PI, row[0])
                    ]
                    w = 50 * sum(a < b for a, b in zip(*costs, strict=True))
                    t = 50 * sum(a == b for a, b in zip(*costs, strict=True))
                    cell = row[2 + 2 * j]
                    assert float(cell.split(" [")[0]) == w
                    assert float(cell.split("] / ")[1]) == t


def test_panels_of_the_figures(reproduced, drawn):
    for name in (
        "fig3",
        "fig4",
        "fig5",
        "fig6",
        "fig6-small",
        "fig7",
        "fig8",
        "convex",
        "tau-limit",
    ):
        make(reproduced, name)
    panels = {name: [a for a in figure.axes if a.get_visible()] for name, figure in drawn.items()}
    for name in ("fig3.png", "fig7.png"):  # two tasks are there
        assert [a.get_title() for a in panels[name]] == ["task 0", "task 1", "", ""]
        (line, *_) = panels[name][1].get_lines()
        expected = np.float32(random_run("mnist-1x20", 1, PI).value)
        np.testing.assert_array_equal(line.get_ydata(), expected)
        assert [a.get_label() for a in panels[name][0].get_lines()] == [PI, *PAPERS]
    for name in ("fig4-seconds.png", "fig4-num_evals.png"):
        assert len(panels[name]) == 3 * 4
    assert "seconds" not in panels["fig4-num_evals.png"][-1].get_xlabel()
    races_of = {"fig5.png": artefacts.MLPS, "fig8.png": artefacts.MLPS,
                "convex.png": ("quadratic", "logistic")}  # fmt: skip
    for name, expected in races_of.items():
        assert [a.get_title() for a in panels[name]] == [f"{race}, 2 tasks" for race in expected]
        assert [len(a.patches) for a in panels[name]] == [4] * len(expected)
    assert "least" in panels["fig5.png"][0].get_ylabel()
    assert "final" in panels["fig8.png"][0].get_ylabel()
    for name, title in (
        ("fig6.png", "cifar10, 2 tasks"),
        ("fig6-small.png", "cifar10-100, 2 tasks"),
    ):
        (cifar,) = panels[name]
        assert len(cifar.patches) == 8  # of π and of π_C
        assert cifar.get_title() == title
    upper, _ = panels["tau-limit.png"]
    np.testing.assert_allclose(upper.get_lines()[0].get_ydata(), [0.0, 0.1, 0.2])


@pytest.mark.parametrize(("name", "num"), [("fig3", 3), ("fig7", 10)])
def test_curves_are_of_the_first_tasks(tmp_path, drawn, name, num):
    fill_race(tmp_path, "mnist-1x20", range(12), [PI])
    make(tmp_path, name)
    titles = [a.get_title() for a in drawn[f"{name}.png"].axes if a.get_visible()]
    assert [t for t in titles if t] == [f"task {i}" for i in range(num)]


@pytest.mark.parametrize("name", ["fig3", "fig7"])
def test_rows_without_curves_make_no_figure_of_curves(command, tmp_path, name):
    """Their file may be gone."""
    fill(tmp_path, "mnist-1x20", [make_row(task, n) for task in range(3) for n in (PI, *PAPERS)])
    status, out, _ = command(name, "--render", "--out", tmp_path)
    assert status == 0
    assert "not made: no curves of its tasks" in out
    assert made(tmp_path) == ["summary.json"]


def test_grids_table(reproduced, drawn):
    ((title, header, rows),) = tables_of(make(reproduced, "grids")["grids.md"])
    assert "1 training task" in title
    best = {"ADAM lr=0.1", "RMSProp lr=0.003", "BTLS c1=0.5 c2=0.75"}
    assert [row[0] for row in rows] == [n + " (best)" * (n in best) for n in SETTINGS]
    assert all(row[1:4] == ["100", "100", "100"] for row in rows)
    assert [row[4] for row in rows] == ["0.5" if n in best else "1" for n in SETTINGS]
    assert len(header) == 5


def test_layers_table_and_figures(reproduced, drawn):
    ((_, _, rows),) = tables_of(make(reproduced, "cvx-layer")["cvx-layer.md"])
    layers = ("cvx", "implicit", "clip", "straight_through")
    losses = [str(10 + list(TRAININGS).index(f"layer-{layer}")) for layer in layers]
    assert rows == [
        [layer, "3", loss, loss, "0", "0.5"] for layer, loss in zip(layers, losses, strict=True)
    ]
    distances = drawn["distances"]
    assert np.all(np.diff(distances) > 0)
    np.testing.assert_array_equal(distances, -distances[::-1])  # both sides, and the bound itself
    assert 0.0 in distances
    assert np.min(np.abs(distances[distances != 0])) < 1e-8
    assert [line.get_label() for line in drawn["cvx-layer-training.png"].axes[0].get_lines()] == [
        "cvx", "implicit", "clip", "straight_through"
    ]  # fmt: skip


def test_claims_are_told_of_what_is_there(reproduced, drawn):
    ((_, header, rows),) = tables_of(make(reproduced, "claims")["claims.md"])
    assert len(rows) == len(claims.CLAIMS)
    holds = [row[header.index("holds")] for row in rows]
    assert set(holds) <= {"yes", "no", "open"}  # nothing is missing


def test_what_is_there(tmp_path):
    """Of several races those that have records; of what must be there, all or nothing."""

    def there(name, races=None):
        artefact = ARTEFACTS[name]
        return artefact.there(tmp_path, artefact.races if races is None else races)

    assert {name: there(name) for name in ARTEFACTS} == {
        name: [] if name == "claims" else None for name in ARTEFACTS
    }
    fill_race(tmp_path, "mnist-2x400", [0], [PI])
    assert there("table1") == there("fig5") == ["mnist-2x400"]
    assert there("table1", ["mnist-1x20"]) is None
    assert there("fig3") is None
    fill_race(tmp_path, "cifar10", [0], [PI])
    assert there("fig6") is None  # the training of π_C is missing
    for name in ("cifar", "layer-cvx", "layer-implicit", "layer-clip"):
        folder = tmp_path / "trainings" / name
        folder.mkdir(parents=True)
        record = OuterRecord(0, 0, 0, 0, [0], 1.0, 1.0, 1.0, 0, -3.0, 0.0, 0.5)
        (folder / "log.jsonl").write_text(json.dumps(dataclasses.asdict(record)) + "\n")
    assert there("fig6") == ["cifar10"]
    assert there("cvx-layer") is None  # one of four is missing


# --- the command ----------------------------------------------------------------------------------


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


def assert_one_error(result, *parts):
    status, out, err = result
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if "error:" in line]
    for part in parts:
        assert part in line


def made(out):
    """The files beside records and trainings."""
    return sorted(path.name for path in out.iterdir() if path.is_file())


def test_help(command):
    status, out, err = command("--help")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for option in ("--tasks", "--sizes", "--shard", "--render", "--pack", "--out", "--json"):
        assert option in out
    for name in ARTEFACTS:
        assert name in out


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["fig9"], ["Unknown artefact 'fig9'", *ARTEFACTS]),
        (["table1", "fig"], ["Unknown artefact 'fig'"]),
        (["--tasks", "0"], ["--tasks must be at least 1, but got 0"]),
        (["convex", "--tasks", "-3"], ["--tasks must be at least 1, but got -3"]),
        (["--tasks", "some"], ["invalid int value: 'some'"]),
        *(
            (["convex", f"--shard={text}"], ["--shard must be I/N with 0 <= I < N", repr(text)])
            for text in ("2/2", "3/2", "-1/2", "0/0", "1", "a/b", "0/1/2", "", "0.5/2")
        ),
        (["all", "fig9"], ["Unknown artefact 'fig9'"]),
        (["--sizes", "9,9"], ["--sizes has '9,9': choose among 1,20 2,400 4,800."]),
        (["--sizes", "1,20", "20"], ["--sizes has '20': choose among 1,20 2,400 4,800."]),
        (["--sizes", "1x20"], ["--sizes has '1x20': choose among 1,20 2,400 4,800."]),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_one_sentence(command, runner, tmp_path, argv, parts):
    assert_one_error(command(*argv, "--out", tmp_path / "out"), *parts)
    assert not (tmp_path / "out").exists()
    assert runner.calls == []


def test_rendering_an_empty_folder_says_what_is_missing(command, runner, trainer, tmp_path):
    status, out, _ = command("--render", "--out", tmp_path / "out")
    assert status == 0
    assert runner.calls == trainer == []
    lines = out.splitlines()
    for name, line in zip(ARTEFACTS, lines, strict=False):
        if name == "claims":
            assert line.split() == ["claims", "claims.md"]
        else:
            assert line.startswith(f"{name} ")
            assert "not made" in line
            assert str(tmp_path / "out") in line
    assert len(lines) == len(ARTEFACTS) + 1
    assert made(tmp_path / "out") == ["claims.md", "summary.json"]
    text = (tmp_path / "out" / "claims.md").read_text()
    assert text.count("| not run |") == len(claims.CLAIMS)


def test_everything_in_form(command, runner, trainer, drawn, tmp_path):
    """All of it with `--tasks 1`; then again, from the records alone; then packed."""
    status, out, err = command("all", "--tasks", 1, "--out", tmp_path)
    assert status == 0
    assert "not made" not in out
    assert [line.split()[0] for line in out.splitlines()][:-1] == list(ARTEFACTS)
    runs = collections.Counter(call[0] for call in runner.calls)
    # One task of each race, and of each of the 21 settings.
    expected = collections.Counter({"mnist-train": 21})
    for race in RACES.values():
        images = "" if race.batch_size == 1000 else f"-{race.batch_size}"
        expected[f"{race.dataset}-test{images}"] += sum(
            map(len, (race.policies, race.against, race.beside))
        )
    assert runs == expected
    assert {call[2] for call in runner.calls} == {0}
    assert [asked[1] for asked in trainer] == [1] * len(TRAININGS)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["tasks"] == 1
    assert list(summary["artefacts"]) == list(ARTEFACTS)
    files = {name for names in summary["artefacts"].values() for name in names}
    assert files | {"summary.json"} == set(made(tmp_path))
    for name in (
        "grids",
        "mnist-1x20",
        "cifar10",
        "cifar10-100",
        "logistic",
        "limits",
        "layer-cvx",
    ):
        assert name in err  # the progress bars, beside the results

    before = {name: (tmp_path / name).read_bytes() for name in files}
    runner.calls.clear()
    trainer.clear()
    for argv in (["--tasks", 1], ["--render"], ["--render", "--pack"], ["--render"]):
        status, out, _ = command(*argv, "--out", tmp_path)
        assert status == 0
        assert "not made" not in out
        assert {name: (tmp_path / name).read_bytes() for name in files} == before
    assert runner.calls == trainer == []
    for race in [*RACES, "grids"]:
        folder = tmp_path / "records" / race
        assert {path.name for path in folder.iterdir()} <= {
            "race.json",
            "runs.csv.gz",
            "curves.npz",
        }
        assert (folder / "runs.csv.gz").is_file()
    for name in TRAININGS:
        files = {path.name for path in (tmp_path / "trainings" / name).iterdir()}
        assert "log.jsonl.gz" in files
        assert not {"log.jsonl", "checkpoints"} & files
    # And what is packed can be gone on with: nothing is run again.
    assert command("--tasks", 1, "--out", tmp_path)[0] == 0
    assert runner.calls == trainer == []


def strict_json(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_all_there_is_on_standard_output(command, runner, drawn, tmp_path):
    status, out, _ = command("convex", "claims", "--tasks", 1, "--json", "--out", tmp_path)
    assert status == 0
    summary = strict_json(out)
    assert summary["artefacts"] == {"convex": ["convex.png", "convex.md"], "claims": ["claims.md"]}
    assert summary == strict_json((tmp_path / "summary.json").read_text())
    assert set(summary["provenance"]) >= {"command", "date", "jax", "python", "device", "x64"}
    status, out, _ = command("fig6", "--render", "--json", "--out", tmp_path)
    assert (status, strict_json(out)["artefacts"]) == (0, {})


def test_only_what_is_asked_for_is_run(command, runner, trainer, drawn, tmp_path):
    assert command("convex", "--tasks", 1, "--out", tmp_path / "a")[0] == 0
    assert {call[0] for call in runner.calls} == {"quadratic-test", "logistic-test"}
    assert trainer == []
    runner.calls.clear()
    assert command("tau-limit", "--tasks", 1, "--out", tmp_path / "b")[0] == 0
    assert runner.calls == []
    assert len(trainer) == 1
    assert made(tmp_path / "b") == ["summary.json", "tau-limit.png"]
    trainer.clear()
    assert command("fig6", "--tasks", 1, "--out", tmp_path / "c")[0] == 0
    assert {call[0] for call in runner.calls} == {"cifar10-test"}
    assert [asked[0] for asked in trainer] == ["cifar10-train"]  # π_C
    runner.calls.clear()
    trainer.clear()
    assert command("fig6-small", "--tasks", 1, "--out", tmp_path / "e")[0] == 0
    assert {call[0] for call in runner.calls} == {"cifar10-test-100"}
    assert [asked[0] for asked in trainer] == ["cifar10-train-100"]
    runner.calls.clear()
    assert command("claims", "--out", tmp_path / "d")[0] == 0
    assert runner.calls == []


def test_sizes_choose_the_networks(command, runner, drawn, tmp_path):
    argv = ["table1", "fig5", "--tasks", 1, "--out", tmp_path]
    assert command(*argv, "--sizes", "2,400")[0] == 0
    # Here no tuned competitor takes part, which is all that the grids are for.
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["mnist-2x400"]
    assert [a.get_title() for a in drawn["fig5.png"].axes] == ["mnist-2x400, 1 task"]
    text = (tmp_path / "table1.md").read_text()
    assert "mnist-2x400" in text
    assert "mnist-1x20" not in text
    assert command(*argv, "--sizes", "1,20", "2,400")[0] == 0
    assert [a.get_title() for a in drawn["fig5.png"].axes] == [
        "mnist-1x20, 1 task",
        "mnist-2x400, 1 task",
    ]
    assert sorted(path.name for path in (tmp_path / "records").iterdir()) == [
        "grids",
        "mnist-1x20",
        "mnist-2x400",
    ]


@pytest.mark.parametrize("name", ["fig3", "fig4", "fig7"])
@pytest.mark.parametrize("render", [[], ["--render"]])
def test_figures_of_one_network_say_so_where_it_is_left_out(
    command, runner, tmp_path, name, render
):
    fill_race(tmp_path, "mnist-1x20", [0])
    status, out, _ = command(name, "--sizes", "2,400", "4,800", *render, "--out", tmp_path)
    assert status == 0
    expected = f"{name} not made: it is of 1,20 alone, which --sizes leaves out"
    assert " ".join(out.splitlines()[0].split()) == expected
    assert runner.calls == []
    assert made(tmp_path) == ["summary.json"]


def test_all_is_all_wherever_it_stands(command, tmp_path):
    for argv in ([], ["all"], ["fig3", "all"], ["all", "claims"]):
        status, out, _ = command(*argv, "--render", "--out", tmp_path)
        assert status == 0
        assert [line.split()[0] for line in out.splitlines()[:-1]] == list(ARTEFACTS)


def convex_runs(num_tasks):
    """How many runs the two convex races have: all take part in every task."""
    both = (RACES[name] for name in ("quadratic", "logistic"))
    return num_tasks * sum(len([*r.policies, *r.against, *r.beside]) for r in both)


def test_shards_of_the_command_are_one_race(command, runner, drawn, tmp_path):
    for shard in ("0/3", "2/3", "1/3"):
        argv = ["convex", "--tasks", 7, "--shard", shard, "--out", tmp_path / "shared"]
        assert command(*argv)[0] == 0
    shared = runner.calls[:]
    assert len(set(shared)) == len(shared)
    runner.calls.clear()
    assert command("convex", "--tasks", 7, "--out", tmp_path / "whole")[0] == 0
    assert sorted(shared) == sorted(runner.calls)
    assert len(shared) == convex_runs(7)
    for race in ("quadratic", "logistic"):
        a, b = (
            [without_seconds(row) for row in RunFolder(tmp_path / out / "records" / race).rows()]
            for out in ("shared", "whole")
        )
        assert a == b


@pytest.mark.parametrize("name", ["fig3", "fig4", "fig7", "table1", "convex"])
def test_a_shard_without_the_first_tasks(command, runner, drawn, tmp_path, name):
    """Its records are of tasks 5 and 11: there may be nothing to draw yet, which is no error."""
    argv = [name, "--sizes", "1,20", "--tasks", 12, "--shard", "5/6", "--out", tmp_path]
    assert command(*argv)[0] == 0
    assert {call[2] for call in runner.calls if call[0].endswith("test")} == {5, 11}


def test_an_interrupted_reproduction_goes_on(command, runner, drawn, tmp_path, monkeypatch):
    save, saved = RunFolder.save, []

    def interrupted_save(self, run, row, *, curve):
        if len(saved) == 20:
            raise KeyboardInterrupt
        save(self, run, row, curve=curve)
        saved.append(row)

    argv = ["convex", "--tasks", 2, "--out", tmp_path]
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", interrupted_save)
        status, out, err = command(*argv)
    assert (status, out) == (130, "")
    assert f"with --out {tmp_path}" in " ".join(err.split())
    assert len(runner.calls) == 21
    assert command(*argv)[0] == 0
    assert len(runner.calls) == convex_runs(2) + 1  # the run that was lost is made again, none else


def test_grids_that_were_interrupted_are_not_judged(command, runner, tmp_path, monkeypatch):
    """Some settings have not run at all: there is no best one yet."""

    def interrupt(name):
        if len(runner.calls) == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grids.run_grids(tmp_path, on_run=interrupt)
    status, out, _ = command("grids", "--render", "--out", tmp_path)
    assert status == 0
    assert "not made" in out


def test_a_damaged_table_is_one_line(command, runner, drawn, tmp_path):
    assert command("convex", "--tasks", 1, "--pack", "--out", tmp_path)[0] == 0
    path = tmp_path / "records" / "logistic" / "runs.csv.gz"
    path.write_bytes(path.read_bytes()[:-20])
    for argv in (["--render"], ["--tasks", 1]):
        assert_one_error(
            command("convex", *argv, "--out", tmp_path), "logistic/runs.csv.gz", "damaged"
        )


def test_records_of_another_policy_are_one_line(command, runner, drawn, tmp_path, monkeypatch):
    assert command("convex", "--tasks", 1, "--out", tmp_path)[0] == 0
    other = dataclasses.replace(RACES["quadratic"], policies={PI: "unit"})
    monkeypatch.setitem(RACES, "quadratic", other)
    result = command("convex", "--tasks", 1, "--out", tmp_path)
    assert_one_error(result, "quadratic", "another race or policy", "--out")


def test_missing_data_says_what_to_do(command, monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="needs the extra 'data'")
    pytest.importorskip("array_record", reason="needs the extra 'data'")
    monkeypatch.setenv("JAX_LBFGS_PI_CACHE", str(tmp_path / "cache"))
    result = command("grids", "--tasks", 1, "--data-dir", tmp_path, "--out", tmp_path / "out")
    assert_one_error(result, "download_and_prepare()")


# --- processes that share a folder ----------------------------------------------------------------


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
    meta_train, progress_bar = trainings.meta_train, cli_reproduce.progress_bar

    def train(tasks, config, **options):
        if config.clip_layer == "straight_through":  # the last of four
            assert bars[0].tasks[0].description == "layer-cvx (another process)"
            held.close()
        return meta_train(tasks, config, **options)

    monkeypatch.setattr(trainings, "meta_train", train)
    monkeypatch.setattr(
        cli_reproduce, "progress_bar", lambda: bars.append(progress_bar()) or bars[0]
    )
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


# --- whole processes ------------------------------------------------------------------------------

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
