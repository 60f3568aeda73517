"""Images: the bundled digits, and MNIST and CIFAR-10 through tensorflow-datasets."""

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jax_lbfgs_pi.files import write_atomically

Images = dict[str, np.ndarray]
"""`images`, uint8 `[num, height, width, channels]`, and `labels`, int32 `[num]`."""


class DataError(RuntimeError):
    """Data that is missing, or an extra without which it cannot be read."""


class NoReaderError(DataError):
    """The packages are missing that read tensorflow-datasets' folders."""


def cache_dir() -> Path:
    """Where decoded images are kept: `JAX_LBFGS_PI_CACHE`, or a folder in the user's cache."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jax_lbfgs_pi"
    return Path(os.environ.get("JAX_LBFGS_PI_CACHE") or fallback)


def load_digits() -> Images:
    """scikit-learn's bundled digits: 1,797 images of 8×8, scaled from [0, 16] to bytes."""
    from sklearn.datasets import load_digits as load

    pixels, labels = load(return_X_y=True)
    images = np.round(np.asarray(pixels) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return {"images": images, "labels": np.asarray(labels, np.int32)}


def load_images(name: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> Images:
    """All images of a split of a prepared tensorflow-datasets data set, in their official order.

    Decoded once, then kept in `cache_dir()`. A machine without tensorflow-datasets reads the copy
    that another has decoded, if that folder has one.

    Args:
      name: `mnist` or `cifar10`.
      split: `train` or `test`.
      data_dir: tensorflow-datasets' folder; by default `TFDS_DATA_DIR`, or its own default.

    Raises:
      DataError: if the data set is missing, or the extra `data` is and no decoded copy is kept;
        the message says what to do.
    """
    try:
        source = _open(name, split, data_dir)
    except NoReaderError:
        kept = (_read_cache(path) for path in sorted(cache_dir().glob(f"{name}-{split}-*.npz")))
        decoded = next((images for images in kept if images is not None), None)
        if decoded is None:
            raise
        return decoded
    path = cache_dir() / f"{name}-{split}-{len(source)}.npz"
    cached = _read_cache(path)
    if cached is not None:
        return cached
    from rich.console import Console
    from rich.progress import track

    items = [
        (item["image"], item["label"])
        for item in track(
            source, f"Decoding {name} {split}", total=len(source), console=Console(stderr=True)
        )
    ]
    images, labels = zip(*items, strict=True)
    decoded = {"images": np.stack(images), "labels": np.asarray(labels, np.int32)}
    _write_cache(path, decoded)
    return decoded


def _open(name: str, split: str, data_dir: str | os.PathLike[str] | None) -> Any:
    try:
        # tensorflow-datasets and array_record log and warn about what is optional.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import array_record.python.array_record_data_source  # noqa: F401
            import tensorflow_datasets as tfds
    except ImportError as error:
        raise NoReaderError(
            f"Reading {name} needs tensorflow-datasets and array_record: "
            f"pip install 'jax_lbfgs_pi[data]', or use the bundled data set 'digits'."
        ) from error
    folder = data_dir or os.environ.get("TFDS_DATA_DIR")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tfds.data_source(name, split=split, data_dir=folder, download=False)
    except Exception as error:  # tfds raises many kinds for what is here one thing: no such data
        raise DataError(_missing(name, folder)) from error


def _missing(name: str, folder: str | os.PathLike[str] | None) -> str:
    where = f"in {folder}" if folder else "in tensorflow-datasets' default folder"
    return (
        f"No array_record copy of {name} was found {where}: set TFDS_DATA_DIR to a prepared "
        f"folder, "
        f"or, once, with network and `pip install tensorflow`, run "
        f'tfds.builder("{name}", file_format="array_record").download_and_prepare() (for mnist the '
        f"four *-ubyte.gz files also do, in a folder given as "
        f"tfds.download.DownloadConfig(manual_dir=..., try_download_gcs=False)), or use the "
        f"bundled data set 'digits'."
    )


def _read_cache(path: Path) -> Images | None:
    try:
        with path.open("rb") as handle, np.load(handle) as file:
            return {"images": file["images"], "labels": file["labels"]}
    except Exception:  # a damaged archive raises almost anything: decode again
        return None


def _write_cache(path: Path, decoded: Images) -> None:
    try:
        buffer = io.BytesIO()
        np.savez(buffer, **decoded)  # type: ignore[arg-type]
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        warnings.warn(f"Could not keep decoded images in {path.parent}: {error}", stacklevel=3)
