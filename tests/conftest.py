"""Settings for all tests: double precision, checked shapes, no silent broadcasting."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from tests.flags import quick_flags

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit all of this
    CACHE = tempfile.TemporaryDirectory(prefix="tests-jax-cache-", ignore_cleanup_errors=True)
    if os.environ["JAX_PLATFORMS"] == "cpu":
        os.environ["XLA_FLAGS"] = quick_flags()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

from jaxtyping import install_import_hook

with install_import_hook("jax_lbfgs_pi", "beartype.beartype"):
    import jax_lbfgs_pi  # noqa: F401

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


def prepared(dataset: str) -> str:
    """tensorflow-datasets' folder with a data set, or a skip that says why."""
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not os.path.isdir(os.path.join(folder, dataset)):
        pytest.skip(f"needs {dataset}: set TFDS_DATA_DIR to a prepared tensorflow-datasets folder")
    pytest.importorskip("array_record", reason="needs the extra 'data'")
    return folder


@pytest.fixture
def mnist_dir() -> str:
    """tensorflow-datasets' folder with MNIST."""
    return prepared("mnist")


@pytest.fixture
def cifar_dir() -> str:
    """tensorflow-datasets' folder with CIFAR-10."""
    return prepared("cifar10")


@pytest.fixture
def fake_images(monkeypatch):
    """Makes MNIST and CIFAR-10 of any length; nothing is read."""
    from tests.hand_made import index_images  # which imports the package, so not before the hook

    def install(num):
        def load(name, split, data_dir=None):
            return index_images(num, {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}[name])

        monkeypatch.setattr("jax_lbfgs_pi.tasks.suites.load_images", load)

    return install


@pytest.fixture
def fake_digits(monkeypatch):
    """The digits' labels with images that tell their index."""
    from jax_lbfgs_pi.tasks import load_digits
    from tests.hand_made import index_images

    digits = index_images(len(load_digits()["labels"]), (8, 8, 1))
    monkeypatch.setattr("jax_lbfgs_pi.tasks.suites.load_digits", lambda: digits)
    return digits
