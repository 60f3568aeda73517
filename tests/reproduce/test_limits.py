"""Limits of races and trainings."""

import dataclasses

import pytest

from jax_lbfgs_pi.reproduce import races, trainings
from jax_lbfgs_pi.reproduce.races import RACES, Race
from jax_lbfgs_pi.reproduce.trainings import TRAININGS, Training
from jax_lbfgs_pi.training import MetaTrainConfig
from tests.hand_made import (
    PAPERS,
    PI,
)


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
        "cifar10", 10, dataclasses.replace(paper, num_epochs=10, clip_layer="implicit"),
    )  # fmt: skip
    assert cifar.start is not None
    assert TRAININGS["cifar-100"] == dataclasses.replace(
        cifar, name="cifar-100", batch_size=100, config=dataclasses.replace(paper, num_epochs=10)
    )
    limits = TRAININGS["limits"]
    assert limits.config.learn_limits
    assert (limits.num_tasks, limits.config.num_epochs, limits.start) == (60, 50, None)
    layers = {
        name: TRAININGS[folder].config.clip_layer for name, folder in trainings.LAYERS.items()
    }
    assert layers == {n: n for n in ("cvx", "implicit", "clip", "straight_through")}
    for name, training in TRAININGS.items():
        assert training.name == name
