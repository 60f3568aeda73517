"""Files that are either whole or not there, and folders that hold one thing."""

import io
import json
import os
import tempfile
from collections.abc import Mapping
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


def claim(folder: Path, name: str, settings: Mapping[str, Any], holds: str) -> None:
    """Notes in a file what a folder is made with, and refuses the folder of anything else.

    Args:
      folder: the folder, which need not exist.
      name: of the file.
      settings: what must be equal where results are not to be mixed, as JSON has it.
      holds: what a folder with others holds, for the message.

    Raises:
      ValueError: if the file is there and says otherwise.
    """
    path, text = folder / name, json.dumps(settings, indent=2, sort_keys=True)
    if path.is_file() and path.read_text(errors="replace") != text:
        raise ValueError(
            f"The folder {str(folder)!r} holds {holds} (see its {name}): choose another with "
            f"--out, or delete it."
        )
    write_atomically(path, text)
