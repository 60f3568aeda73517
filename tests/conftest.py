"""Settings for all tests: double precision, checked shapes, no silent broadcasting."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

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
