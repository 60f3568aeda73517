"""Tuning grids."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from jax_lbfgs_pi.reproduce import grids
from jax_lbfgs_pi.reproduce.grids import GRIDS, best_settings, score, tuned_competitors
from jax_lbfgs_pi.reproduce.races import competitors
from jax_lbfgs_pi.reproduce.records import Records, RunFolder
from tests.hand_made import (
    PI,
    make_row,
)
from tests.reproduce.helpers import INF, SETTINGS, TINY, fill, grid_records, keys


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
