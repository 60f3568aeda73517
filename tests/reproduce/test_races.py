"""Races that are run, resumed and shared, and what must not be mixed."""

import collections
import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import math
import shutil
import sys
from pathlib import Path

import jax
import jaxlib
import numpy as np
import optax
import pytest
import scipy

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.baselines import ScipyCompetitor, baselines
from jax_lbfgs_pi.reproduce import race_runs, races, trainings
from jax_lbfgs_pi.reproduce.race_runs import count_runs, run_race
from jax_lbfgs_pi.reproduce.races import RACES, Race, competitors
from jax_lbfgs_pi.reproduce.records import RunFolder
from jax_lbfgs_pi.reproduce.trainings import TRAININGS, Training
from jax_lbfgs_pi.training import MetaTrainConfig
from jax_lbfgs_pi.versions import versions
from tests import oracles
from tests.hand_made import (
    PI,
    make_run,
    plain_row,
    random_run,
    without_seconds,
)
from tests.reproduce.helpers import (
    INF,
    TINY,
    Runner,
    keys,
    small_tasks,
)

BASELINES = baselines()


def wanted(num_tasks, num_beside=2):
    """The runs of `TINY`, as a set."""
    everywhere = {(t, n) for t in range(num_tasks) for n in (PI, "ADAM", "L-BFGS-B")}
    return everywhere | {
        (t, n) for t in range(min(num_tasks, num_beside)) for n in ("unit", "SciPy")
    }


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


def test_a_policy_trained_anew_is_refused_or_raced_again(runner, tmp_path, monkeypatch):
    """Under one path, it is another policy; `again` runs that, and nothing else."""
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
    with pytest.raises(ValueError, match=r"holds records of another race.* with --again"):
        run_race(race, tmp_path)
    runner.calls.clear()
    run_race(race, tmp_path, again=True)
    run_race(race, tmp_path)  # the new one is known
    assert runner.pairs() == [(0, "π_C"), (1, "π_C")]
    with pytest.raises(ValueError, match="holds records of another race"):
        run_race(dataclasses.replace(race, max_iters=31), tmp_path, again=True)


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
        "device": jax.devices()[0].device_kind,
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
    shipped = Path(__file__).parents[2] / "reproduction" / "records" / race
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
    assert entrants["ADAM"][0] == BASELINES["ADAM"]


@pytest.mark.parametrize("where", ["against", "beside"])
@pytest.mark.parametrize("name", ["scipy", "L-BFGS-B, tuned"])
def test_an_unknown_competitor_is_not_left_out(runner, tmp_path, where, name):
    race = dataclasses.replace(TINY, **{where: ("ADAM", name)})
    with pytest.raises(ValueError, match=f"^The race 'tiny' has the unknown competitor '{name}': "):
        run_race(race, tmp_path)
    assert runner.calls == []
