"""The data of tasks: splits, what is absent, and the cache of decoded images."""

import sys
from collections import Counter

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.tasks import data, load_digits, load_images
from tests.hand_made import indices

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


@pytest.mark.slow
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
def test_missing_extra_says_what_to_install(monkeypatch, tmp_path, module):
    monkeypatch.setenv("JAX_LBFGS_PI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(lp.DataError, match=r"pip install 'jax_lbfgs_pi\[data\]'.*'digits'"):
        lp.get_tasks("mnist", "train")


# --- the cache of decoded images ------------------------------------------------------------------


REALLY_OPEN = data._open


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


def test_a_decoded_copy_is_read_where_the_extra_is_missing(source, monkeypatch):
    load_images("mnist", "test")
    monkeypatch.setattr("jax_lbfgs_pi.tasks.data._open", REALLY_OPEN)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    check_images(source, load_images("mnist", "test"))
    with pytest.raises(lp.DataError, match=r"pip install 'jax_lbfgs_pi\[data\]'"):
        load_images("mnist", "train")


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
