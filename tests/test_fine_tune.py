"""A policy for one class of problems: the split, going on, what is kept, and the command."""

import dataclasses
import inspect
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.cli import build_parser, main
from jax_lbfgs_pi.cli.common import load_tasks
from jax_lbfgs_pi.cli.race import race_tasks
from jax_lbfgs_pi.evaluation import load_results
from jax_lbfgs_pi.training import development, fine_tune
from jax_lbfgs_pi.training.fine_tune import split
from tests.command_line import assert_one_error
from tests.pages import Page, markdown_tables

SMALL = lp.FineTuneConfig(
    generations=6, tasks_per_generation=4, num_pairs=2, num_evals=15, memory_size=3, check_every=2
)


class Bowl:
    """Quadratics of two scales."""

    def init(self, key):
        return jax.random.normal(key, (3,))

    def loss(self, params, data):
        return 0.5 * jnp.sum(data * params**2)


def bowls(num=25, seed=0):
    scales = 10 ** np.random.default_rng(seed).uniform(0, 2, size=(num, 3))
    return lp.TaskSet(Bowl(), scales, name="bowls")


def test_tasks_that_are_chosen_keep_their_data_and_starts():
    tasks = bowls()
    chosen = tasks.choose([7, 3])
    for mine, index in zip(range(2), (7, 3), strict=True):
        jax.tree.map(np.testing.assert_array_equal, chosen[mine], tasks[index])
    jax.tree.map(np.testing.assert_array_equal, chosen.choose([1])[0], tasks[3])
    assert len(tasks.take(4)) == 4
    for mask in (np.arange(25) == 3, np.array([0.7, 1.9])):
        with pytest.raises(TypeError, match="indices of tasks must be integers"):
            tasks.choose(mask)
    with pytest.raises(TypeError, match="rows must be integers, but are of bool"):
        lp.TaskSet(Bowl(), np.ones((2, 3)), rows=[True, False])
    with pytest.raises(ValueError, match="as many as its 25 tasks"):
        lp.TaskSet(Bowl(), np.ones((25, 3)), draws=[1, 2])


def test_the_split_is_disjoint_and_of_all():
    parts = split(bowls(26), seed=3)
    assert [len(part) for part in parts] == [15, 5, 6]
    starts = [tuple(np.asarray(part[i][1])) for part in parts for i in range(len(part))]
    assert len(set(starts)) == 26
    with pytest.raises(ValueError, match="at least 20 tasks, but there are 19"):
        split(bowls(19))


def rivals_by_policies(about, first, on):
    names = (about.name, "rule", "optax.lbfgs")
    return dict.fromkeys(names, on(about.program, first))


@pytest.mark.slow
def test_what_was_interrupted_goes_on_to_the_bit(tmp_path, monkeypatch):
    # Of the training alone, and the slowest program of all is not needed for it.
    monkeypatch.setattr(fine_tune, "final_verdict", lambda policy, *_: None)
    monkeypatch.setattr(development, "search_program", development.policy_program)
    monkeypatch.setattr(development.Development, "rivals", rivals_by_policies)
    whole = lp.fine_tune(bowls(), config=SMALL, out=tmp_path / "whole")
    assert [check.generation for check in whole.checks] == [2, 4, 6]

    def stop(done):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lp.fine_tune(bowls(), config=SMALL, out=tmp_path / "parts", on_generation=stop)
    (tmp_path / "parts" / "checks.jsonl").unlink()  # killed before it was written
    seen = []
    again = lp.fine_tune(bowls(), config=SMALL, out=tmp_path / "parts", on_generation=seen.append)
    assert seen == [5, 6]
    assert again.checks == whole.checks
    jax.tree.map(np.testing.assert_array_equal, again.policy, whole.policy)
    with pytest.raises(ValueError, match="training of other settings or tasks"):
        lp.fine_tune(bowls(seed=1), config=SMALL, out=tmp_path / "whole")
    (tmp_path / "whole" / "checks.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"'checks\.jsonl' .* is damaged"):
        lp.fine_tune(bowls(), config=SMALL, out=tmp_path / "whole")


@pytest.mark.slow
def test_the_first_policy_stays_where_no_other_is_better():
    """So large moves are worse than none."""
    wild = lp.FineTuneConfig(**{**vars(SMALL), "learning_rate": 50.0, "sigma": 9.0, "patience": 1})
    checks = []
    tuned = lp.fine_tune(bowls(), config=wild, on_check=checks.append)
    assert tuned.checks == checks
    assert len(checks) == 1  # it stopped at once
    assert not checks[0].best
    params = lp.load_policy("general").params
    jax.tree.map(np.testing.assert_array_equal, tuned.policy.params, params)
    assert not tuned.verdict.helps
    np.testing.assert_array_equal(tuned.verdict.evals["trained"], tuned.verdict.evals["general"])


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("unit", "'general', 'rule', or a policy trained like this"),
        ("dense", "'general', 'rule', or a policy trained like this"),
        ("nowhere", "Unknown policy"),
    ],
)
def test_a_start_of_another_form_is_refused(start, message):
    with pytest.raises(ValueError, match=message):
        lp.fine_tune(bowls(), start=start, config=SMALL)
    with pytest.raises(ValueError, match="sigma must be positive"):
        lp.FineTuneConfig(sigma=0.0)


def test_what_is_no_set_of_tasks_and_no_setting():
    for name, value in [
        ("generations", 1.5), ("generations", None), ("generations", True), ("memory_size", "full"),
        ("patience", 0), ("seed", "a"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least"):
            lp.FineTuneConfig(**{name: value})
    for value, error in [(None, TypeError), (float("inf"), ValueError), (float("nan"), ValueError)]:
        with pytest.raises(error, match="sigma must be"):
            lp.FineTuneConfig(sigma=value)
    nothing = lp.TaskSet(Bowl(), np.full((25, 3), np.nan), name="holes")
    with pytest.raises(ValueError, match="loss of holes is finite at the start of none of 5 tasks"):
        lp.fine_tune(nothing, config=SMALL)
    tune = inspect.unwrap(lp.fine_tune)  # types are checked in the tests alone
    with pytest.raises(TypeError, match="tasks must be a TaskSet, but got a list"):
        tune([bowls()])
    with pytest.raises(TypeError, match="config must be a FineTuneConfig or None"):
        tune(bowls(), config={"generations": 1})


MODULE = """
import numpy as np
from tests.test_fine_tune import Bowl, bowls
few = bowls(5)
make_tasks = bowls
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "own_tasks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_tasks", raising=False)


def test_the_command_trains_on_tasks_of_ones_own(module, tmp_path, capsys):
    options = ("--generations", "10", "--evals", "12", "--memory", "3", "--out", "mine")
    assert main(["train", "--task", "own_tasks:make_tasks", *options]) == 0
    out = capsys.readouterr().out
    summary = json.loads((tmp_path / "mine" / "summary.json").read_text())
    assert summary["verdict"] in out
    assert summary["tasks"] == {"name": "bowls", "number": 25, "held_out": 5}
    assert summary["generations"] == 10
    assert max(len(line) for line in out.splitlines() if set(line) & set("┃│━")) <= 80
    card = (tmp_path / "mine" / "policy.md").read_text()
    assert summary["verdict"] in card
    for row in ("| trained |", "| general |", "| rule |", "| optax.lbfgs |"):
        assert row in card
    page = Page((tmp_path / "mine" / "report.html").read_text())
    assert summary["verdict"] in page.texts["p"]
    assert "lbfgs-pi race --task own_tasks:make_tasks --policy mine/policy.safetensors" in out
    assert page.tables == markdown_tables(card)
    assert {p.name for p in (tmp_path / "mine").glob("*.png")} == {"profile.png", "progress.png"}
    policy = lp.load_policy(tmp_path / "mine" / "policy")
    result = lp.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(3), policy=policy)
    assert result.status == lp.Status.CONVERGED


def test_a_race_on_tasks_of_ones_own_that_training_held_out(module, tmp_path, capsys):
    race = ["race", "--task", "own_tasks:make_tasks", "--tasks", "2", "--seed", "3"]
    race += ["--against", "ADAM", "--max-iters", "9", "--out", "raced"]
    assert main([*race, "--split", "test"]) == 0
    out = capsys.readouterr().out
    assert "2 tasks of bowls" in out
    assert "f<" not in out  # which f is low is not known
    held_out = split(bowls(), 3)[2]
    results = load_results(tmp_path / "raced" / "runs", ["L-BFGS-π", "ADAM"])
    for i, runs in enumerate(results):
        data, x0 = held_out[i]
        for run in runs.values():
            np.testing.assert_allclose(run.value[0], Bowl().loss(x0, data), rtol=1e-12)
        assert runs["L-BFGS-π"].value[-1] < 0.1 * runs["L-BFGS-π"].value[0]
    report = tmp_path / "raced" / "report"
    tables = Page(report.with_suffix(".html").read_text()).tables
    assert tables == markdown_tables(report.with_suffix(".md").read_text())
    # Others are not mixed with them.
    for options in (["--split", "dev"], []):
        assert_one_error((main([*race, *options]), *capsys.readouterr()), "another race")
    (tmp_path / "own_tasks.py").write_text(MODULE + "make_tasks = bowls(seed=1)")
    del sys.modules["own_tasks"]
    assert_one_error((main([*race, "--split", "test"]), *capsys.readouterr()), "another race")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], bowls()),
        (["--tasks", "4"], bowls().take(4)),
        (["--split", "dev"], split(bowls())[1]),
    ],
    ids=["all", "first", "dev"],
)
def test_which_tasks_a_race_takes(module, options, expected):
    args = build_parser().parse_args(["race", "--task", "own_tasks:make_tasks", *options])
    tasks, about = race_tasks(args)
    assert tasks.digest() == expected.digest()
    assert about["digest"] == bowls().digest()


def test_the_digest_is_of_data_and_starting_points():
    tasks = bowls()
    others = [
        bowls(seed=1),
        dataclasses.replace(tasks, seed=1),
        tasks.choose(np.arange(25)[::-1]),
        tasks.take(24),
        lp.TaskSet(Bowl(), np.asarray(tasks.data, np.float32)),
    ]
    assert len({other.digest() for other in (tasks, *others)}) == 6
    assert bowls().digest() == tasks.digest()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_tasks", "MODULE:NAME"),
        ("no_such_module:x", "no module 'no_such_module'"),
        ("own_tasks:absent", "is missing"),
        ("own_tasks:number", "is int"),
    ],
)
def test_what_is_no_task_set_is_said(module, name, message):
    with pytest.raises(ValueError, match=message):
        load_tasks(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "3"], "--task does not read --epochs"),
        (["--learn-limits"], "--task does not read --learn-limits"),
        (["--preset", "paper"], "--task does not read --preset"),
        (["--dataset", "mnist"], "--task does not read --dataset"),
        (["--out", "few"], "at least 20 tasks, but there are 5"),
        (["--init-from", "cosine"], "a policy trained like this"),
    ],
)
def test_what_the_command_does_not_take_is_said(module, capsys, options, message):
    name = "own_tasks:make_tasks" if "cosine" in options else "own_tasks:few"
    status = main(["train", "--task", name, *options])
    assert_one_error((status, *capsys.readouterr()), message)
