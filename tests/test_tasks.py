import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.stats
from jax.flatten_util import ravel_pytree

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.tasks import (
    CNN,
    MLP,
    Classification,
    load_digits,
    load_images,
    logistic_tasks,
    num_params,
    quadratic_tasks,
)
from jax_lbfgs_pi.tasks.networks import valid_conv


def index_images(num, shape):
    """Images whose first two bytes tell their index; the label is the index modulo ten."""
    images = np.zeros((num, *shape), np.uint8)
    index = np.arange(num)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = index // 256, index % 256
    return {"images": images, "labels": (index % 10).astype(np.int32)}


def indices(images):
    """What `index_images` wrote, from images in [0, 1] or as bytes."""
    pixels = np.asarray(images)
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels * 255)
    return pixels[..., 0, 0, 0].astype(int) * 256 + pixels[..., 0, 1, 0].astype(int)


@pytest.fixture
def fake_images(monkeypatch):
    """Makes MNIST and CIFAR-10 of any length; nothing is read."""

    def install(num):
        def load(name, split, data_dir=None):
            return index_images(num, {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}[name])

        monkeypatch.setattr("jax_lbfgs_pi.tasks.suites.load_images", load)

    return install


@pytest.fixture
def fake_digits(monkeypatch):
    digits = index_images(len(load_digits()["labels"]), (8, 8, 1))
    monkeypatch.setattr("jax_lbfgs_pi.tasks.suites.load_digits", lambda: digits)
    return digits


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


@pytest.mark.parametrize("shape", [(3, 9, 7, 2), (1, 5, 5, 1), (4, 6, 8, 3)])
@pytest.mark.parametrize("kernel", [(5, 5), (1, 3), (4, 2)])
def test_convolution_and_its_derivatives_equal_xlas(shape, kernel):
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], shape)
    weights = jax.random.normal(keys[1], (*kernel, shape[-1], 6))

    def xla(images, weights):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, weights, (1, 1), "VALID", dimension_numbers=numbers
        )

    expected, pull_back = jax.vjp(xla, images, weights)
    actual, my_pull_back = jax.vjp(valid_conv, images, weights)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
    cotangent = jax.random.normal(keys[2], expected.shape)
    for mine, theirs in zip(my_pull_back(cotangent), pull_back(cotangent), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)


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
    task = Classification(CNN(), (32, 32, 3))
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


# --- the splits -----------------------------------------------------------------------------------


def test_digits_are_scaled_to_bytes():
    from sklearn.datasets import load_digits as bundled

    digits, reference = load_digits(), bundled()
    assert digits["images"].shape == (1797, 8, 8, 1)
    assert (digits["images"].dtype, digits["labels"].dtype) == (np.uint8, np.int32)
    np.testing.assert_allclose(digits["images"][..., 0], reference.images * 255 / 16, atol=0.5)
    np.testing.assert_array_equal(digits["labels"], reference.target)


def test_digits_splits_share_no_image(fake_digits):
    used = {}
    for split, num in (("train", 60), ("dev", 20), ("test", 30)):
        tasks = lp.get_tasks("digits", split, num_tasks=num)
        assert len(tasks) == num
        sets = []
        for i in range(num):
            data, _ = tasks[i]
            rows = indices(data["images"])
            assert rows.shape == (200,)
            assert len(set(rows)) == 200  # no image twice in a task
            np.testing.assert_array_equal(data["labels"], rows % 10)  # each with its own label
            sets.append(frozenset(rows))
        used[split] = set().union(*sets)
        # Training tasks draw their own subsets; the others share batches and differ in x0.
        assert len(set(sets)) == {"train": 60, "dev": 1, "test": 3}[split]
    assert not used["train"] & used["dev"]
    assert not used["train"] & used["test"]
    assert not used["dev"] & used["test"]
    assert (len(used["dev"]), len(used["test"])) == (200, 600)
    assert len(used["train"]) == 997  # together with the others, all 1,797


def test_default_numbers_of_tasks(fake_images):
    fake_images(3000)
    for dataset in ("digits", "mnist", "quadratic"):
        assert len(lp.get_tasks(dataset, "train")) == 60
    assert len(lp.get_tasks("mnist", "test")) == 1000
    assert len(lp.get_tasks("digits", "dev")) == 20


@pytest.mark.parametrize("num", [1000, 2345, 9_999, 10_000])
@pytest.mark.parametrize(
    ("dataset", "options", "size"),
    [("mnist", {}, 1000), ("cifar10", {}, 1000), ("cifar10", {"batch_size": 128}, 128)],
)
def test_batches_hold_images_each_used_at_most_once(fake_images, dataset, options, size, num):
    """However many images there are: what is left over makes no batch."""
    fake_images(num)
    tasks = lp.get_tasks(dataset, "test", num_tasks=7, **options)
    rows = indices(tasks.data["images"])
    assert rows.shape == (num // size, size)
    assert len(set(rows.ravel())) == rows.size
    assert not np.array_equal(rows.ravel(), np.sort(rows.ravel()))  # shuffled
    np.testing.assert_array_equal(tasks.data["labels"], rows % 10)
    batches = [tuple(indices(tasks[i][0]["images"])) for i in range(7)]
    assert len(set(batches)) == min(7, num // size)


def test_mnist_training_batches_use_every_image_once(mnist_dir):
    images = load_images("mnist", "train", mnist_dir)
    # The official training set: its order begins with 5, 0, 4, and its classes are uneven.
    np.testing.assert_array_equal(
        np.bincount(images["labels"]),
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    )
    tasks = lp.get_tasks("mnist", "train", data_dir=mnist_dir)
    assert len(tasks) == 60
    assert tasks.data["images"].shape == (60, 1000, 28, 28, 1)

    def items(data):
        flat = data["images"].reshape(-1, 784)
        return Counter(
            (image.tobytes(), int(label))
            for image, label in zip(flat, np.ravel(data["labels"]), strict=True)
        )

    assert items(tasks.data) == items(images)
    data, _ = tasks[59]
    assert data["images"].shape == (1000, 28, 28, 1)
    assert (float(data["images"].min()), float(data["images"].max())) == (0.0, 1.0)


def test_mnist_test_tasks_are_ten_batches_with_a_hundred_starts_each(mnist_dir):
    tasks = lp.get_tasks("mnist", "test", data_dir=mnist_dir)
    assert len(tasks) == 1000
    assert tasks.data["images"].shape == (10, 1000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(tasks.rows), 100)
    (first, x0), (same, other_x0) = tasks[0], tasks[10]
    np.testing.assert_array_equal(first["images"], same["images"])
    assert not np.allclose(ravel_pytree(x0)[0], ravel_pytree(other_x0)[0])


def test_cifar_test_batches(cifar_dir):
    images = load_images("cifar10", "test", cifar_dir)
    num = len(images["labels"])  # 10,000 officially; a copy may lack some
    tasks = lp.get_tasks("cifar10", "test", num_tasks=3, data_dir=cifar_dir)
    assert tasks.data["images"].shape == (num // 1000, 1000, 32, 32, 3)
    data, x0 = tasks[0]
    value = float(jax.jit(tasks.task.loss)(x0, data))
    assert abs(value - np.log(10)) < 1.0  # near the uniform guess
    assert np.bincount(images["labels"], minlength=10).max() <= 1000


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


# --- errors, and data that is absent --------------------------------------------------------------


def test_unknown_data_set():
    with pytest.raises(
        ValueError, match="Unknown data set 'imagenet': choose one of digits, mnist"
    ):
        lp.get_tasks("imagenet", "train")


@pytest.mark.parametrize(
    ("dataset", "split", "known"),
    [
        ("digits", "valid", "train, dev, test"),
        ("mnist", "dev", "train, test"),
        ("cifar10", "dev", "train, test"),
        ("quadratic", "", "train, dev, test"),
    ],
)
def test_unknown_split(dataset, split, known):
    with pytest.raises(ValueError, match=f"{dataset} has no split '{split}': .* {known}\\."):
        lp.get_tasks(dataset, split)


@pytest.mark.parametrize("dataset", ["digits", "quadratic", "logistic", "mnist"])
@pytest.mark.parametrize("num_tasks", [0, -3])
def test_no_tasks(dataset, num_tasks):
    with pytest.raises(ValueError, match=f"num_tasks must be at least 1, but got {num_tasks}"):
        lp.get_tasks(dataset, "train", num_tasks=num_tasks)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_empty_batches(batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, but got {batch_size}"):
        lp.get_tasks("mnist", "train", batch_size=batch_size)


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_missing_data_says_what_to_do(monkeypatch, tmp_path, dataset, how):
    pytest.importorskip("tensorflow_datasets", reason="needs the extra 'data'")
    pytest.importorskip("array_record", reason="needs the extra 'data'")
    monkeypatch.setenv("JAX_LBFGS_PI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(lp.DataError) as caught:
        lp.get_tasks(dataset, "train", data_dir=tmp_path if how == "argument" else None)
    message = str(caught.value)
    for part in (
        dataset, str(tmp_path), "TFDS_DATA_DIR", "array_record", "download_and_prepare()",
        "pip install tensorflow", "'digits'",
    ):  # fmt: skip
        assert part in message


@pytest.mark.parametrize(
    "module", ["tensorflow_datasets", "array_record.python.array_record_data_source"]
)
def test_missing_extra_says_what_to_install(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(lp.DataError, match=r"pip install 'jax_lbfgs_pi\[data\]'.*'digits'"):
        lp.get_tasks("mnist", "train")


# --- the cache of decoded images ------------------------------------------------------------------


class Source:
    """What tensorflow-datasets hands out, of four images; counts the passes made over it."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, size=(4, 3, 2, 1)).astype(np.uint8)
        self.labels, self.passes = [7, 0, 3, 3], 0

    def __len__(self):
        return 4

    def __iter__(self):
        self.passes += 1
        pairs = zip(self.images, self.labels, strict=True)
        return iter([{"image": image, "label": label} for image, label in pairs])


@pytest.fixture
def source(monkeypatch, tmp_path):
    source = Source()
    monkeypatch.setattr("jax_lbfgs_pi.tasks.data._open", lambda *args: source)
    monkeypatch.setenv("JAX_LBFGS_PI_CACHE", str(tmp_path / "cache"))
    return source


def check_images(source, loaded):
    np.testing.assert_array_equal(loaded["images"], source.images)
    np.testing.assert_array_equal(loaded["labels"], source.labels)
    assert (loaded["images"].dtype, loaded["labels"].dtype) == (np.uint8, np.int32)


def test_images_are_decoded_once(source, tmp_path, capfd):
    for _ in range(3):
        check_images(source, load_images("mnist", "test"))
    assert source.passes == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1  # and no temporary files
    assert capfd.readouterr().out == ""  # standard output is for results


def test_splits_and_data_sets_have_caches_of_their_own(source):
    for name, split in [("mnist", "train"), ("mnist", "test"), ("cifar10", "train")]:
        load_images(name, split)
    assert source.passes == 3


@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "other arrays"])
def test_a_damaged_cache_is_decoded_again(source, tmp_path, damage):
    load_images("mnist", "test")
    (path,) = (tmp_path / "cache").iterdir()
    content = path.read_bytes()
    if damage == "other arrays":
        np.savez(path, pixels=np.zeros(3))
    else:
        cut = {"empty": b"", "half": content[: len(content) // 2], "garbage": b"nonsense" * 99}
        path.write_bytes(cut[damage])
    check_images(source, load_images("mnist", "test"))
    assert source.passes == 2
    assert path.read_bytes() == content  # whole again
    check_images(source, load_images("mnist", "test"))
    assert source.passes == 2


def test_no_flipped_byte_in_the_cache_reaches_the_user(source, tmp_path):
    load_images("mnist", "test")
    (path,) = (tmp_path / "cache").iterdir()
    content = path.read_bytes()
    decoded_again = 0
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        before = source.passes
        check_images(source, load_images("mnist", "test"))
        decoded_again += source.passes - before
    assert decoded_again > 20


def test_a_cache_that_cannot_be_written_is_a_warning(source, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JAX_LBFGS_PI_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="Could not keep decoded images"):
        check_images(source, load_images("mnist", "test"))
