import dataclasses
import inspect
import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import Policy
from jax_lbfgs_pi.tasks import get_tasks, quadratic_tasks
from jax_lbfgs_pi.training import PRESETS, read_log
from jax_lbfgs_pi.training.config import MetaTrainConfig
from jax_lbfgs_pi.training.outer import make_outer_step, outer_loss_and_grad
from jax_lbfgs_pi.unroll import init_inner
from tests.counted import CountedTask

SMALL = MetaTrainConfig(
    num_epochs=2, unroll_length=5, unrolls_per_start=3, clip_layer="implicit", seed=1
)


def small_tasks(num_tasks=4):
    return quadratic_tasks(num_tasks, dim=6, condition=20.0)


def theta_of(policy):
    return np.asarray(ravel_pytree(policy.params)[0])


def test_paper_preset_is_the_papers():
    """SPEC §4, setting by setting."""
    paper = dataclasses.asdict(PRESETS["paper"])
    expected = {
        "num_epochs": 50, "unroll_length": 50, "unrolls_per_start": 8, "tasks_per_step": 1,
        "memory_size": 5, "keep_memory": False, "clip_layer": "cvx", "loss": "sum",
        "freeze_grads": True, "optimizer": "adadelta", "learning_rate": 1.0, "grad_tol": 1e-10,
        "learn_limits": False, "max_grad_norm": np.inf, "divergence_factor": np.inf,
    }  # fmt: skip
    assert {name: paper[name] for name in expected} == expected


def plain_meta_training(tasks, config, policy):
    """The protocol by plain loops: order of tasks, carried x0, empty memory, ADADELTA by hand."""
    network, theta = policy.with_clip_layer(config.clip_layer).network, policy.params
    flat, unravel = ravel_pytree(theta)
    mean_square, mean_update = np.zeros(flat.size), np.zeros(flat.size)
    flat = np.asarray(flat)
    losses = []

    @jax.jit
    def loss_and_grad(flat, x, data):
        inner = init_inner(tx, lambda p: tasks.task.loss(p, data), x)

        def loss(theta):
            tx = lp.lbfgs_pi(Policy(theta, network), guard=None, memory_size=config.memory_size)
            end, trajectory = lp.unroll(
                tx, lambda p: tasks.task.loss(p, data), inner, config.unroll_length
            )
            return jnp.sum(trajectory.value), (end, trajectory)

        return jax.value_and_grad(loss, has_aux=True)(unravel(flat))

    tx = lp.lbfgs_pi(policy, guard=None, memory_size=config.memory_size)
    for epoch in range(config.num_epochs):
        for i in np.random.default_rng((config.seed, epoch)).permutation(len(tasks)):
            data, x = tasks[int(i)]
            for _ in range(config.unrolls_per_start):
                (loss, (end, _)), grads = loss_and_grad(jnp.array(flat), x, data)
                g = np.asarray(ravel_pytree(grads)[0])
                mean_square = 0.9 * mean_square + 0.1 * g**2
                step = np.sqrt(mean_update + 1e-6) / np.sqrt(mean_square + 1e-6) * g
                mean_update = 0.9 * mean_update + 0.1 * step**2
                flat = flat - step
                x = end.params
                losses.append(float(loss))
    return flat, losses


def test_meta_training_equals_the_plain_protocol():
    tasks, policy = small_tasks(), lp.init_policy(jax.random.key(2))
    expected, losses = plain_meta_training(tasks, SMALL, policy)
    trained, log = lp.meta_train(tasks, SMALL, policy=policy)
    np.testing.assert_allclose(theta_of(trained), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose([r.loss for r in log.records], losses, rtol=1e-6)
    assert np.linalg.norm(theta_of(trained) - theta_of(policy)) > 1e-2
    assert len(log.records) == 2 * 4 * 3
    assert trained.network.clip_layer == "clip"


def test_a_batch_averages_the_gradients_of_its_tasks():
    tasks = small_tasks(3)
    config = dataclasses.replace(SMALL, tasks_per_step=3)
    network = lp.init_policy(jax.random.key(0), clip_layer="implicit").network
    theta = lp.init_policy(jax.random.key(2)).params
    step = make_outer_step(tasks.task, network, config)
    data, x0 = tasks.stack([0, 1, 2])
    inner = step.start(data, x0)
    moved, _, info = step.step(step.init(theta), inner, data, np.ones(3, bool), inner.value)
    singles = []
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], (inner, data))
        singles.append(
            outer_loss_and_grad(theta, *one, network=network, task=tasks.task, config=config)
        )
    np.testing.assert_allclose(info.loss, [s[0] for s in singles], rtol=1e-10)
    mean = jax.tree.map(lambda *g: sum(g) / 3, *(s[3] for s in singles))
    optimizer = optax.adadelta(1.0, rho=0.9, eps=1e-6)
    updates, _ = optimizer.update(mean, optimizer.init(theta), theta)
    expected = ravel_pytree(optax.apply_updates(theta, updates))[0]
    np.testing.assert_allclose(ravel_pytree(moved.theta)[0], expected, rtol=1e-8)


class Explosive:
    """f is finite at x0; the steps of task 1 lead to overflow, those of task 0 do not."""

    def init(self, key):
        return 1.0 + jax.random.uniform(key, (3,))

    def loss(self, params, data):
        return jnp.sum(jnp.cosh(data * params))


@pytest.mark.parametrize("tasks_per_step", [1, 2])
def test_non_finite_unrolls_leave_theta_alone_and_are_counted(tasks_per_step):
    tasks = lp.TaskSet(Explosive(), data=np.array([0.3, 300.0]))
    config = dataclasses.replace(SMALL, tasks_per_step=tasks_per_step, num_epochs=1)
    policy = lp.init_policy(jax.random.key(0), tau_min=-0.1)
    trained, log = lp.meta_train(tasks, config, policy=policy)
    bad = [r for r in log.records if 1 in r.tasks and r.num_skipped]
    assert log.num_skipped == len(bad) == 1  # the task is left at once, as its iterate is lost
    assert np.isfinite(theta_of(trained)).all()
    # Without the bad task, training is the same.
    alone = lp.TaskSet(Explosive(), data=np.array([0.3]))
    config = dataclasses.replace(config, tasks_per_step=1)
    expected, _ = lp.meta_train(alone, config, policy=policy)
    np.testing.assert_allclose(theta_of(trained), theta_of(expected), rtol=1e-9)


def test_huge_but_finite_gradients_whose_squares_overflow_are_skipped_too():
    class Steep:
        def init(self, key):
            return jax.random.normal(key, (3,))

        def loss(self, params, data):
            return 1e160 * jnp.sum(data * jnp.sqrt(1.0 + params**2))

    tasks = lp.TaskSet(Steep(), data=np.array([1.0]))
    config = dataclasses.replace(SMALL, num_epochs=1, unroll_length=2)
    policy = lp.init_policy(jax.random.key(0))
    trained, log = lp.meta_train(tasks, config, policy=policy)
    assert log.num_skipped > 0
    np.testing.assert_array_equal(theta_of(trained), theta_of(policy))


def test_divergence_factor_skips_unrolls_that_were_worse_than_standing_still():
    class Cliff:
        """At least 10 above a thin valley, in which x0 lies: every step leads out of it."""

        def init(self, key):
            return jax.random.uniform(key, (2,), minval=0.9, maxval=1.1)

        def loss(self, params, data):
            return data + 50.0 * jnp.sum(jnp.tanh(5.0 * params) ** 2 * params**2)

    tasks = lp.TaskSet(Cliff(), data=np.array([0.1]))
    policy = lp.init_policy(jax.random.key(0), tau_min=-0.1)
    config = dataclasses.replace(SMALL, num_epochs=1, unrolls_per_start=1)
    _, log = lp.meta_train(tasks, config, policy=policy)
    assert log.num_skipped == 0
    ratio = log.records[0].loss / config.unroll_length / float(tasks.task.loss(tasks[0][1], 0.1))
    for factor, skipped in [(ratio * 1.01, 0), (ratio * 0.99, 1)]:
        changed = dataclasses.replace(config, divergence_factor=factor)
        assert lp.meta_train(tasks, changed, policy=policy)[1].num_skipped == skipped


def test_max_grad_norm_scales_a_tasks_gradient_down():
    tasks = small_tasks(2)
    network = lp.init_policy(jax.random.key(0), clip_layer="implicit").network
    theta = lp.init_policy(jax.random.key(2)).params
    data, x0 = tasks.stack([0])

    def first_moment(limit):
        config = dataclasses.replace(SMALL, optimizer="adam", max_grad_norm=limit)
        step = make_outer_step(tasks.task, network, config)
        inner = step.start(data, x0)
        moved, *_ = step.step(step.init(theta), inner, data, np.ones(1, bool), inner.value)
        return np.asarray(ravel_pytree(moved.opt_state[0].mu)[0]) / 0.1  # Adam's (1 - β1) g

    free = first_moment(np.inf)
    norm = np.linalg.norm(free)
    assert norm > 1e-3
    np.testing.assert_allclose(first_moment(norm / 10), free / 10, rtol=1e-6)
    np.testing.assert_allclose(first_moment(norm * 10), free, rtol=1e-6)


@pytest.mark.parametrize("limit", [np.inf, 100.0])
def test_one_unroll_that_blows_up_stops_adadelta_unless_gradients_are_limited(limit):
    """Its running mean of squares forgets a tenth a step: a huge one lasts for thousands of them.

    The second unroll is on a quadratic of curvature 1e20, where a step along -g leads to f of 1e60.
    """
    network = lp.init_policy(jax.random.key(0), clip_layer="implicit").network
    config = dataclasses.replace(SMALL, max_grad_norm=limit)
    step = make_outer_step(CountedTask(), network, config)
    x0, curvature, moves = jnp.ones((1, 4)), jnp.array([[1.0, 20.0, 3.0, 7.0]]), []
    outer = step.init(lp.init_policy(jax.random.key(7)).params)
    for scale in (1.0, 1e20, 1.0, 1.0):
        inner = step.start(scale * curvature, x0)
        moved, _, info = step.step(outer, inner, scale * curvature, np.ones(1, bool), inner.value)
        assert info.counted.all()
        moves.append(optax.tree.norm(optax.tree.sub(moved.theta, outer.theta)))
        outer = moved
    assert moves[0] > 1e-5
    assert all((move < 1e-30) if limit == np.inf else (move > 1e-5) for move in moves[2:]), moves


def test_a_task_is_left_once_its_gradient_is_tiny():
    config = dataclasses.replace(SMALL, unroll_length=60, grad_tol=1e-6, num_epochs=1)
    _, log = lp.meta_train(small_tasks(2), config)
    assert [r.unroll for r in log.records] == [0, 0]
    assert all(r.grad_norm < 1e-6 for r in log.records)


def test_keeping_the_memory_makes_two_unrolls_one_run():
    tasks = small_tasks(1)
    policy = lp.constant_policy(1.0)  # always at no bound: but θ must not matter, so do not train
    config = dataclasses.replace(
        SMALL, keep_memory=True, num_epochs=1, learning_rate=0.0, unrolls_per_start=2
    )
    _, log = lp.meta_train(tasks, config, policy=policy)
    data, x0 = tasks[0]
    fun = lambda x: tasks.task.loss(x, data)  # noqa: E731
    tx = lp.lbfgs_pi(policy, guard=None, memory_size=config.memory_size)
    _, whole = lp.unroll(tx, fun, init_inner(tx, fun, x0), 10)
    np.testing.assert_allclose(log.records[1].last_value, whole.value[-1], rtol=1e-6)
    _, forgetful = lp.meta_train(
        tasks, dataclasses.replace(config, keep_memory=False), policy=policy
    )
    assert abs(forgetful.records[1].last_value / float(whole.value[-1]) - 1) > 1e-3


def test_going_on_from_a_policy_starts_there():
    tasks = small_tasks()
    first, _ = lp.meta_train(tasks, SMALL)
    frozen, _ = lp.meta_train(
        tasks, dataclasses.replace(SMALL, learning_rate=0.0, num_epochs=1), policy=first
    )
    np.testing.assert_array_equal(theta_of(frozen), theta_of(first))


def test_learned_limits_move():
    config = dataclasses.replace(SMALL, learn_limits=True)
    trained, _ = lp.meta_train(small_tasks(), config)
    limits = trained.params["params"]
    assert (float(limits["tau_min"]), float(limits["tau_max"])) != (-3.0, 0.0)


def test_outer_steps_of_one_shape_are_compiled_once():
    task = CountedTask()
    traces = task.traces
    tasks = lp.TaskSet(task, data=np.linspace(1.0, 2.0, 12).reshape(3, 4))
    lp.meta_train(tasks, dataclasses.replace(SMALL, num_epochs=1))
    once = len(traces)
    traces.clear()
    lp.meta_train(tasks, dataclasses.replace(SMALL, num_epochs=6))
    assert len(traces) == once


@pytest.fixture
def cvx():
    pytest.importorskip("cvxpylayers", reason="needs the extra 'cvx'")
    pytest.importorskip("moreau", reason="needs the extra 'cvx'")


def test_cvx_and_implicit_train_the_same_theta_for_20_outer_steps(cvx):
    """Free-running, on tasks whose unrolls do not amplify rounding errors."""
    tasks = quadratic_tasks(5, dim=10, condition=50.0)
    config = MetaTrainConfig(num_epochs=1, unroll_length=5, unrolls_per_start=4, seed=2)
    trained = []
    for layer in ("cvx", "implicit"):
        policy, log = lp.meta_train(tasks, dataclasses.replace(config, clip_layer=layer))
        trained.append(theta_of(policy))
    assert len(log.records) == 20
    assert np.linalg.norm(trained[1] - theta_of(lp.init_policy(jax.random.key(2)))) > 1e-2
    assert np.linalg.norm(trained[0] - trained[1]) < 1e-4 * np.linalg.norm(trained[1])


@pytest.mark.slow
def test_cvx_and_implicit_take_the_same_outer_steps_on_real_images(cvx):
    """20 outer steps of the paper's protocol, both layers from the same state each time.

    Free-running they part, as do `clip` and `implicit`: an unroll of 50 steps amplifies rounding
    errors by 1e7, so 30 are compared. Every task has a policy of its own: one that is trained on
    may come to t = 1 at all steps, where the derivative is 0 and there is nothing to compare.
    """
    tasks = get_tasks("digits", "train", num_tasks=10, size=(1, 8))
    network = lp.init_policy(jax.random.key(0)).network
    steps = {
        layer: make_outer_step(
            tasks.task,
            network.clone(clip_layer=layer),
            MetaTrainConfig(clip_layer=layer, unroll_length=30),
        )
        for layer in ("cvx", "implicit")
    }
    alive, moved = np.ones(1, bool), 0
    for i in range(10):
        outer = steps["implicit"].init(lp.init_policy(jax.random.key(i)).params)
        data, x0 = tasks.stack([i])
        inner = steps["implicit"].start(data, x0)
        start = inner.value
        for _ in range(2):
            args = (outer, inner, data, alive, start)
            by_cvx, *_ = steps["cvx"].step(*args)
            before = ravel_pytree(outer.theta)[0]
            outer, inner, _ = steps["implicit"].step(*args)
            theta, other = ravel_pytree(outer.theta)[0], ravel_pytree(by_cvx.theta)[0]
            # With all steps at a bound the derivative is 0, and that of `cvx` its solver's noise,
            # which ADADELTA makes larger.
            at_bounds = bool(jnp.all(theta == before))
            moved += not at_bounds
            tolerance = 1e-3 if at_bounds else 1e-4
            assert jnp.linalg.norm(theta - other) < tolerance * jnp.linalg.norm(theta)
    assert moved >= 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_epochs": 0}, "num_epochs must be an integer of at least 1"),
        ({"unroll_length": 0}, "unroll_length must be an integer of at least 1"),
        ({"memory_size": 0}, "memory_size must be an integer of at least 1"),
        ({"learning_rate": -1.0}, "learning_rate must be at least 0"),
        ({"grad_tol": -1.0}, "grad_tol must be at least 0"),
        ({"clip_layer": "soft"}, "Unknown clip layer 'soft'"),
        ({"loss": "max"}, "Unknown loss 'max': choose one of sum, mean_log"),
        ({"optimizer": "sgd"}, "Unknown optimizer 'sgd': choose one of adadelta, adam"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        lp.get_preset("paper", **changes)


def test_what_is_nothing_to_train_on_or_from():
    train, config = inspect.unwrap(lp.meta_train), lp.get_preset("fast", num_epochs=1)
    for arguments, message in [
        (([small_tasks()],), "trains on a TaskSet, but got a list"),
        ((small_tasks(), {"num_epochs": 1}), "config must be a MetaTrainConfig, but got a dict"),
    ]:
        with pytest.raises(TypeError, match=message):
            train(*arguments)
    for policy in ("paper-mnist", lp.load_policy("general")):
        with pytest.raises(TypeError, match="goes on from a Policy of the paper's form"):
            train(small_tasks(), config, policy=policy)
    with pytest.raises(ValueError, match="checkpoint_every must be an integer of at least 1"):
        train(small_tasks(), config, checkpoint_every=0)


def test_unknown_preset():
    with pytest.raises(ValueError, match="Unknown preset 'slow': choose one of paper, fast"):
        lp.get_preset("slow")


# -- checkpoints -------------------------------------------------------------------------------


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path):
    tasks = small_tasks()
    expected, whole = lp.meta_train(tasks, SMALL)

    def interrupt(record):
        if record.step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lp.meta_train(tasks, SMALL, checkpoint_dir=tmp_path, checkpoint_every=4, on_step=interrupt)
    seen = []
    resumed, log = lp.meta_train(
        tasks, SMALL, checkpoint_dir=tmp_path, checkpoint_every=4, on_step=seen.append
    )
    assert seen[0].step == 8  # the last checkpoint
    np.testing.assert_array_equal(theta_of(resumed), theta_of(expected))

    def facts(records):
        return [{**dataclasses.asdict(r), "seconds": 0} for r in records]

    assert facts(log.records) == facts(whole.records) == facts(read_log(tmp_path).records)


def test_a_finished_run_is_not_run_again(tmp_path):
    tasks = small_tasks()
    first, _ = lp.meta_train(tasks, SMALL, checkpoint_dir=tmp_path)
    seen = []
    second, log = lp.meta_train(tasks, SMALL, checkpoint_dir=tmp_path, on_step=seen.append)
    assert seen == []
    np.testing.assert_array_equal(theta_of(first), theta_of(second))
    assert len(log.records) == 24


def test_another_runs_folder_is_refused(tmp_path):
    tasks = small_tasks()
    lp.meta_train(tasks, SMALL, checkpoint_dir=tmp_path)
    for other, config in [
        (tasks, dataclasses.replace(SMALL, seed=2)),
        (small_tasks(3), SMALL),
    ]:
        with pytest.raises(ValueError, match="holds a run with other settings or tasks"):
            lp.meta_train(other, config, checkpoint_dir=tmp_path)


def test_a_torn_last_line_of_the_log_is_dropped(tmp_path):
    lp.meta_train(small_tasks(), SMALL, checkpoint_dir=tmp_path)
    path = tmp_path / "log.jsonl"
    path.write_text(path.read_text()[:-25])
    assert len(read_log(tmp_path).records) == 23
    assert len(read_log(tmp_path, before_step=5).records) == 5


KILLED = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import Policy
from jax_lbfgs_pi.tasks import get_tasks
tasks = get_tasks("digits", "train", num_tasks=6, size=(1, 8))
config = lp.get_preset("paper", num_epochs=2, unroll_length=20, clip_layer="implicit")
policy, log = lp.meta_train(tasks, config, checkpoint_dir=sys.argv[1], checkpoint_every=3)
lp.save_policy(policy, sys.argv[1] + "/policy")
"""


@pytest.mark.slow
def test_killed_at_five_random_moments_theta_is_bit_identical(tmp_path):
    """SIGKILL, which no handler sees, wherever it hits: compiling, stepping or saving."""
    runs = {}
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}

    def start(name):
        (tmp_path / name).mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / name)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(name):
        process = start(name)
        _, error = process.communicate()
        assert process.returncode == 0, error.decode()[-2000:]
        return (tmp_path / name / "policy.safetensors").read_bytes()

    def steps(name):
        path = tmp_path / name / "log.jsonl"
        return path.read_text().count("\n") if path.exists() else 0

    runs["whole"] = finish("whole")
    total = steps("whole")
    rng = np.random.default_rng()
    kills = sorted(rng.choice(np.arange(1, total - 1), size=5, replace=False))
    killed = 0
    for target in kills:
        process = start("killed")
        while steps("killed") < target and process.poll() is None:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.02)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 4  # a run may have ended first
    runs["killed"] = finish("killed")
    assert runs["killed"] == runs["whole"], f"killed after {kills}"
    lines = [json.loads(s) for s in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(total))
