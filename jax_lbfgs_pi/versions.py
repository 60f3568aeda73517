"""The versions that a result was made with."""

import contextlib
import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

PACKAGES = ("jax_lbfgs_pi", "jax", "jaxlib", "optax", "numpy", "scipy")


@functools.cache
def versions() -> dict[str, str]:
    """Versions by name: of `PACKAGES`, of Python, and this package's commit if it is in a clone."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # run from its source
            found[name] = importlib.metadata.version(name)
    commit = _commit()
    return found if commit is None else found | {"commit": commit}


def _commit() -> str | None:
    """The last commit that changed the package, and whether files have changed since."""
    try:
        commit = _git("log", "-1", "--format=%H", "--", ".")
        changes = _git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.SubprocessError):  # no git, or no clone
        return None
    if not commit:  # installed inside a clone of something else
        return None
    return f"{commit} with changes" if changes else commit


def _git(*args: str) -> str:
    # Without locks: other processes may be at the same clone.
    argv = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *args]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
