import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.stats
from flax import linen as nn
from jax.flatten_util import ravel_pytree

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.tasks import (
    CNN,
    MLP,
    Classification,
    logistic_tasks,
    num_params,
    quadratic_tasks,
)
from jax_lbfgs_pi.tasks.chunks import mean_in_chunks
from jax_lbfgs_pi.tasks.networks import conv_relu_pool
from tests.marks import some_of

# --- the networks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "n"), [((1, 20), 16_280), ((2, 400), 637_600), ((4, 800), 3_195_200)]
)
def test_mlps_have_the_papers_numbers_of_variables(fake_images, size, n):
    fake_images(1000)
    assert num_params(lp.get_tasks("mnist", "train", size=size).task) == n


def test_cnn_has_the_papers_number_of_variables(fake_images):
    fake_images(1000)
    assert num_params(lp.get_tasks("cifar10", "train").task) == 5_278


def softmax_cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -np.mean(log_p[np.arange(len(labels)), labels])


@pytest.mark.parametrize("size", [(1, 20), (3, 7)])
def test_mlp_loss_equals_a_plain_forward_pass(size):
    tasks = lp.get_tasks("digits", "dev", size=size, num_tasks=1)
    data, x0 = tasks[0]
    x = np.asarray(data["images"]).reshape(200, 64)
    assert x.min() == 0.0
    assert x.max() == 1.0
    layers = {name: np.asarray(layer["kernel"]) for name, layer in x0["params"].items()}
    assert all(set(layer) == {"kernel"} for layer in x0["params"].values())  # no biases
    assert len(layers) == size[0] + 2
    for i in range(size[0] + 1):
        x = 1.0 / (1.0 + np.exp(-x @ layers[f"Dense_{i}"]))
    expected = softmax_cross_entropy(x @ layers[f"Dense_{size[0] + 1}"], np.asarray(data["labels"]))
    np.testing.assert_allclose(tasks.task.loss(x0, data), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "side"),
    some_of([((3, 8, 6, 2), 5), ((1, 4, 4, 1), 1), ((4, 6, 8, 3), 3)], quick=(0, 1)),
)
def test_convolution_relu_and_pool_and_their_derivatives_equal_xlas(shape, side):
    keys = jax.random.split(jax.random.key(0), 4)
    images = jax.random.normal(keys[0], shape)
    kernel = jax.random.normal(keys[1], (side, side, shape[-1], 6))
    bias = jax.random.normal(keys[2], (6,))

    def xla(images, kernel, bias):
        numbers = ("NHWC", "HWIO", "NHWC")
        inner = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "VALID", dimension_numbers=numbers
        )
        return nn.avg_pool(jax.nn.relu(inner + bias[None, None, None]), (2, 2), strides=(2, 2))

    expected, pull_back = jax.vjp(xla, images, kernel, bias)
    actual, my_pull_back = jax.vjp(conv_relu_pool, images, kernel, bias)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
    cotangent = jax.random.normal(keys[3], expected.shape)
    for mine, theirs in zip(my_pull_back(cotangent), pull_back(cotangent), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", some_of([3, 7, 10, 1], quick=(0, 1)))
def test_a_mean_in_chunks_and_its_gradient_equal_those_of_all(size):
    rng = np.random.default_rng(0)
    data = {"rows": rng.normal(size=(7, 3)), "labels": np.arange(7)}

    def loss(params, data):
        return jnp.mean(jnp.tanh(data["rows"] @ params["w"]) * data["labels"] + params["b"] ** 2)

    def chunked(params, data):
        return mean_in_chunks(loss, params, data, size)

    lanes = {"w": jnp.array(rng.normal(size=(2, 3))), "b": jnp.array([0.3, -2.0])}
    expected = jax.vmap(jax.value_and_grad(loss), (0, None))(lanes, data)
    actual = jax.jit(jax.vmap(jax.value_and_grad(chunked), (0, None)))(lanes, data)
    value = jax.vmap(chunked, (0, None))(lanes, data)
    for mine, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-14)
    np.testing.assert_allclose(value, expected[0], rtol=1e-14)
    one = jax.tree.map(lambda x: x[0], lanes)
    forward, exact = (jax.jvp(lambda p, f=f: f(p, data), (one,), (one,)) for f in (chunked, loss))
    np.testing.assert_allclose(forward, exact, rtol=1e-14)
    curved, exact = (jax.hessian(f)(one, data)["w"]["w"] for f in (chunked, loss))
    np.testing.assert_allclose(curved, exact, rtol=1e-13, atol=1e-15)


def test_a_mean_in_chunks_says_that_it_has_no_derivative_by_its_data():
    def loss(rows):
        return mean_in_chunks(lambda w, rows: jnp.mean(rows * w), jnp.ones(()), rows, 2)

    with pytest.raises(ValueError, match="differentiate by params alone"):
        jax.grad(loss)(jnp.ones(4))


def plain_convolution(image, kernel, bias):
    """Valid cross-correlation, `[H, W, C]` with `[5, 5, C, D]`."""
    return np.stack(
        [
            sum(
                scipy.signal.correlate2d(image[..., c], kernel[..., c, d], mode="valid")
                for c in range(image.shape[-1])
            )
            + bias[d]
            for d in range(kernel.shape[-1])
        ],
        axis=-1,
    )


def plain_pool(image):
    """Means of 2x2 blocks."""
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def test_cnn_loss_equals_a_plain_forward_pass():
    task = Classification(CNN(), (32, 32, 3), chunk=2)
    x0 = task.init(jax.random.key(3))
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(size=(3, 32, 32, 3)), np.array([2, 9, 4])
    layers = jax.tree.map(np.asarray, x0)["params"]
    logits = []
    for image in images:
        x = image
        for name in ("Conv_0", "Conv_1"):
            x = plain_convolution(x, layers[name]["kernel"], layers[name]["bias"])
            x = plain_pool(np.maximum(x, 0.0))
        assert x.shape == (5, 5, 12)
        logits.append(x.ravel() @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"])
    expected = softmax_cross_entropy(np.array(logits), labels)
    actual = task.loss(x0, {"images": jnp.array(images), "labels": jnp.array(labels)})
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


# --- convex tasks ---------------------------------------------------------------------------------


def central_differences(fun, x, h=1e-5):
    steps = h * np.eye(x.size)
    return np.array([(fun(x + step) - fun(x - step)) / (2 * h) for step in steps])


def test_quadratic_loss_gradient_and_spectrum():
    tasks = quadratic_tasks(3, dim=8, condition=100.0, seed=4)
    for i in range(3):
        data, x0 = tasks[i]
        A, c, x = (np.asarray(a) for a in (data["A"], data["c"], x0))
        value, grad = jax.value_and_grad(tasks.task.loss)(x0, data)
        np.testing.assert_allclose(value, 0.5 * (x - c) @ A @ (x - c), rtol=1e-12)
        np.testing.assert_allclose(grad, A @ (x - c), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(A, A.T, atol=1e-14)
        eigenvalues = np.linalg.eigvalsh(A)
        assert eigenvalues.min() > 0.01 * (1 - 1e-9)
        assert eigenvalues.max() < 1 + 1e-9


def test_logistic_loss_and_gradient():
    tasks = logistic_tasks(2, dim=6, num_samples=30, l2=0.1, seed=5)
    for i in range(2):
        data, x0 = tasks[i]
        X, z = np.asarray(data["X"]), np.asarray(data["z"])
        assert set(z) == {-1.0, 1.0}

        def plain(x, X=X, z=z):
            return np.mean(np.log(1.0 + np.exp(-z * (X @ x)))) + 0.05 * x @ x

        value, grad = jax.value_and_grad(tasks.task.loss)(x0, data)
        np.testing.assert_allclose(value, plain(np.asarray(x0)), rtol=1e-12)
        np.testing.assert_allclose(grad, central_differences(plain, np.asarray(x0)), atol=1e-8)


def test_logistic_loss_is_finite_far_away():
    tasks = logistic_tasks(1, dim=4, num_samples=10)
    data, _ = tasks[0]
    value, grad = jax.value_and_grad(tasks.task.loss)(jnp.full(4, 1e6), data)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("dataset", ["quadratic", "logistic"])
def test_convex_splits_share_no_problem(dataset):
    key = {"quadratic": "A", "logistic": "X"}[dataset]
    problems = [
        data[key].tobytes()
        for split in ("train", "dev", "test")
        for tasks in [lp.get_tasks(dataset, split, num_tasks=5)]
        for data in [{k: v[i] for k, v in tasks.data.items()} for i in range(5)]
    ]
    assert len(set(problems)) == 15


@pytest.mark.parametrize("dataset", ["quadratic", "logistic"])
def test_a_convex_task_does_not_depend_on_how_many_there_are(dataset):
    """As for images: the first tasks of a longer list are those of a shorter one."""
    few, many = (lp.get_tasks(dataset, "dev", num_tasks=num) for num in (2, 5))
    for i in range(2):
        jax.tree.map(np.testing.assert_array_equal, few[i], many[i])


# --- starting points ------------------------------------------------------------------------------


def starting_points(tasks, num):
    return np.stack([np.asarray(ravel_pytree(tasks[i][1])[0]) for i in range(num)])


def test_starting_points_are_normal_with_sigma_a_tenth():
    x0 = starting_points(lp.get_tasks("digits", "train", size=(2, 20), num_tasks=10), 10)
    num = x0.size
    assert abs(x0.mean()) < 4 * 0.1 / np.sqrt(num)
    assert abs(x0.std() - 0.1) < 4 * 0.1 / np.sqrt(2 * num)
    assert scipy.stats.kstest(x0.ravel() / 0.1, "norm").pvalue > 1e-3
    # The same σ in wide and in narrow layers, and nowhere a bias towards zero.
    for part in np.split(x0, [64 * 20, 64 * 20 + 400, 64 * 20 + 800], axis=1):
        assert abs(part.std() - 0.1) < 4 * 0.1 / np.sqrt(2 * part.size)


def test_starting_points_are_independent():
    """Between tasks, between splits, and between layers of one shape."""
    tasks = [lp.get_tasks("digits", split, num_tasks=4) for split in ("train", "dev", "test")]
    x0 = np.concatenate([starting_points(t, 4) for t in tasks])
    correlation = np.corrcoef(x0) - np.eye(12)
    assert np.abs(correlation).max() < 5 / np.sqrt(x0.shape[1])
    layers = Classification(MLP(3, 30), (8, 8, 1)).init(jax.random.key(0))["params"]
    inner = np.stack([np.ravel(layers[f"Dense_{i}"]["kernel"]) for i in (1, 2, 3)])
    assert np.abs(np.corrcoef(inner) - np.eye(3)).max() < 5 / np.sqrt(900)


def test_the_same_task_is_the_same_every_time():
    first, second = (lp.get_tasks("digits", "train", num_tasks=3) for _ in range(2))
    for i in range(3):
        jax.tree.map(np.testing.assert_array_equal, first[i], second[i])


# --- task sets ------------------------------------------------------------------------------------


class Sphere:
    def init(self, key):
        return jax.random.normal(key, (5,))

    def loss(self, params, data):
        return jnp.sum((params - data) ** 2)


def test_indexing_gives_the_row_and_a_start_of_its_own():
    data = np.arange(15.0).reshape(3, 5)
    tasks = lp.TaskSet(Sphere(), data, rows=[2, 0, 2, 1], seed=7)
    assert len(tasks) == 4
    for i, row in enumerate([2, 0, 2, 1]):
        mine, x0 = tasks[i]
        np.testing.assert_array_equal(mine, data[row])
        expected = jax.random.normal(jax.random.fold_in(jax.random.key(7), i), (5,))
        np.testing.assert_array_equal(x0, expected)


def test_decode_is_applied_to_one_batch_at_a_time():
    seen = []

    def decode(batch):
        seen.append(batch.shape)
        return batch / 2.0

    tasks = lp.TaskSet(Sphere(), np.full((3, 5), 4, np.uint8), decode=decode)
    assert seen == []
    np.testing.assert_array_equal(tasks[1][0], 2.0)
    assert seen == [(5,)]


def test_stack_is_the_tasks_side_by_side():
    tasks = lp.TaskSet(Sphere(), {"a": np.arange(20.0).reshape(4, 5)})
    data, x0 = tasks.stack([3, 1, 3])
    assert x0.shape == data["a"].shape == (3, 5)
    for row, i in enumerate([3, 1, 3]):
        np.testing.assert_array_equal(data["a"][row], tasks[i][0]["a"])
        np.testing.assert_array_equal(x0[row], tasks[i][1])


def test_take_keeps_the_first_tasks_as_they_are():
    tasks = lp.TaskSet(Sphere(), np.arange(20.0).reshape(4, 5), rows=[3, 1, 0], seed=2)
    few = tasks.take(2)
    assert (len(few), len(tasks), len(tasks.take(9))) == (2, 3, 3)
    for i in range(2):
        jax.tree.map(np.testing.assert_array_equal, few[i], tasks[i])


@pytest.mark.parametrize("index", [-1, 3, 100])
def test_indices_out_of_range(index):
    tasks = lp.TaskSet(Sphere(), np.ones((3, 5)))
    with pytest.raises(IndexError, match=f"Task {index} of 3"):
        tasks[index]


def test_a_task_set_can_be_iterated_over():
    assert len(list(lp.TaskSet(Sphere(), np.ones((3, 5))))) == 3


@pytest.mark.parametrize(
    "data", [{"a": np.ones((3, 2)), "b": np.ones(4)}, {}, np.float64(1.0), {"a": np.array(1.0)}]
)
def test_data_without_a_common_leading_axis(data):
    with pytest.raises(ValueError, match="must be arrays that agree in their leading axis"):
        lp.TaskSet(Sphere(), data)


@pytest.mark.parametrize("task", [Sphere, object()])
def test_what_is_no_task(task):
    with pytest.raises(
        TypeError, match=r"must have init\(key\) and loss\(params, data\), as an inst"
    ):
        inspect.unwrap(lp.TaskSet.__init__)(object.__new__(lp.TaskSet), task, np.ones((3, 5)))


@pytest.mark.parametrize("rows", [[], [3], [-1], [0, 1, 5]])
def test_rows_that_are_no_batches(rows):
    with pytest.raises(ValueError, match="must be indices of its 3 batches, at least one"):
        lp.TaskSet(Sphere(), np.ones((3, 5)), rows=rows)


def test_taking_no_task_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        lp.TaskSet(Sphere(), np.ones((3, 5))).take(0)


def test_a_task_of_ones_own_trains_a_policy():
    """The class above is all of it, in less than ten lines."""
    assert isinstance(Sphere(), lp.Task)
    rng = np.random.default_rng(0)
    tasks = lp.TaskSet(Sphere(), data=rng.normal(size=(4, 5)), name="spheres")
    config = lp.MetaTrainConfig(
        num_epochs=2, unroll_length=4, unrolls_per_start=1, tasks_per_step=2, clip_layer="implicit"
    )
    start = lp.init_policy(jax.random.key(4))  # its clip is not active at every step
    policy, log = lp.meta_train(tasks, config, policy=start)
    assert len(log.records) == 4
    assert all(np.isfinite(record.loss) for record in log.records)
    moved = np.abs(ravel_pytree(policy.params)[0] - ravel_pytree(start.params)[0])
    assert 0 < moved.max() < 1
    assert log.num_skipped == 0
