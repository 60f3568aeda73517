"""Trainings of the reproduction."""

import dataclasses
import shutil

import numpy as np
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.reproduce import trainings
from jax_lbfgs_pi.reproduce.trainings import TRAININGS, Training, run_training
from jax_lbfgs_pi.training import MetaTrainConfig
from jax_lbfgs_pi.training.log import MetaTrainLog, read_log
from tests.reproduce.helpers import (
    facts,
    small_tasks,
)

SMALL = MetaTrainConfig(
    num_epochs=2, unroll_length=3, unrolls_per_start=2, clip_layer="implicit", learn_limits=True
)


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
