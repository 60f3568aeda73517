"""One process at a time, where several share a folder."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(out: Path, name: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keeps other processes out while this one is at something; waits while one is in.

    The lock is the kernel's, on an empty file in `out/.locks`: it ends with the process, however
    that ends, and the file that stays means nothing.

    Args:
      out: the folder that is shared.
      name: of what must not be done by two.
      on_wait: called before waiting; may raise instead.
    """
    import fcntl  # of POSIX alone: tables and figures can be made without it

    path = out / ".locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def owned(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps a folder to this process, which writes it; refuses one that another process has.

    Raises:
      ValueError: if another process is at it.
    """

    def refuse() -> None:
        raise ValueError(
            f"The folder {str(folder)!r} is in use by another run: wait for its end, or choose "
            f"another folder (--out, or out=)."
        )

    with alone(Path(folder), "owner", refuse):
        yield
