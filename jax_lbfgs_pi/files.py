"""Files that are either whole or not there."""

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Writes `content` to `path`, creating its folder; a killed process leaves no half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_arrays(path: str | os.PathLike[str], arrays: dict[str, Any]) -> None:
    """Writes arrays by name to a compressed `.npz`, in the same way."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())
