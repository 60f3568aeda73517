"""What a task is, and a set of them."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.trees import Params


@runtime_checkable
class Task(Protocol):
    """An optimization problem up to its data and starting point.

    Examples:
      >>> import jax, jax.numpy as jnp, numpy as np
      >>> import jax_lbfgs_pi as lp
      >>> class Sphere:
      ...     def init(self, key):
      ...         return jax.random.normal(key, (5,))
      ...     def loss(self, params, data):
      ...         return jnp.sum((params - data) ** 2)
      >>> len(lp.TaskSet(Sphere(), data=np.ones((20, 5))))
      20
    """

    def init(self, key: PRNGKeyArray) -> Params:
        """A random starting point x0."""
        ...

    def loss(self, params: Params, data: Any) -> Float[Array, ""]:
        """f(x), a smooth scalar function of `params`; `data` tells the tasks of a set apart."""
        ...


def _identity(data: Any) -> Any:
    return data


def _integers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"The {name} must be integers, but are of {array.dtype}.")
    return array.astype(int)


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """Tasks of one shape, which one compiled function serves: they differ in data and in x0.

    Attributes:
      task: what they have in common.
      data: a pytree of NumPy arrays whose leading axis tells the batches apart.
      rows: the batch of each task, shape `(num_tasks,)`; by default one task for each batch.
      seed: where the starting points are drawn from.
      draws: the number of each task's starting point, `task.init(fold_in(key(seed), number))`;
        by default the task's own, whatever the other tasks are.
      decode: applied to one batch when it is asked for, so that images can be kept as bytes.
      name: for logs and figures.
    """

    task: Task
    data: Any
    rows: Sequence[int] | np.ndarray | None = None
    seed: int = 0
    decode: Callable[[Any], Any] = _identity
    name: str = "tasks"
    draws: Sequence[int] | np.ndarray | None = None

    def __post_init__(self) -> None:
        if isinstance(self.task, type) or not isinstance(self.task, Task):
            raise TypeError(
                "The task of a TaskSet must have init(key) and loss(params, data), as an instance "
                f"of a class has, but got {self.task!r}."
            )
        leaves = jax.tree.leaves(self.data)
        lengths = {np.shape(leaf)[:1] for leaf in leaves}
        if len(lengths) != 1 or lengths == {()}:
            raise ValueError(
                "The data of a TaskSet must be arrays that agree in their leading axis, the number "
                f"of batches, but their shapes are {[np.shape(leaf) for leaf in leaves]}."
            )
        num_batches = lengths.pop()[0]
        rows = np.arange(num_batches) if self.rows is None else _integers("rows", self.rows)
        if rows.size == 0 or rows.min() < 0 or rows.max() >= num_batches:
            raise ValueError(
                f"The rows of a TaskSet must be indices of its {num_batches} batches, at least one."
            )
        object.__setattr__(self, "rows", rows)
        draws = np.arange(rows.size) if self.draws is None else _integers("draws", self.draws)
        if draws.shape != rows.shape:
            raise ValueError(
                f"The draws of a TaskSet must be as many as its {rows.size} tasks, but are "
                f"{draws.size}."
            )
        object.__setattr__(self, "draws", draws)

    def __len__(self) -> int:
        return len(np.asarray(self.rows))

    def __getitem__(self, index: int) -> tuple[Any, Params]:
        """The data and the starting point of one task."""
        if not 0 <= index < len(self):
            raise IndexError(f"Task {index} of {len(self)}.")
        row = np.asarray(self.rows)[index]
        data = self.decode(jax.tree.map(lambda leaf: leaf[row], self.data))
        number = int(np.asarray(self.draws)[index])
        x0 = self.task.init(jax.random.fold_in(jax.random.key(self.seed), number))
        return jax.tree.map(jnp.asarray, data), x0

    def stack(self, indices: Sequence[int] | np.ndarray) -> tuple[Any, Params]:
        """The data and the starting points of several tasks, along a new leading axis."""
        items = [self[int(i)] for i in indices]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *items)

    def take(self, num_tasks: int) -> "TaskSet":
        """The first `num_tasks` tasks, or all if there are fewer."""
        return self.choose(np.arange(min(num_tasks, len(self))))

    def choose(self, indices: Sequence[int] | np.ndarray) -> "TaskSet":
        """Some of the tasks, with their own data and starting points.

        Raises:
          TypeError: for what are no integers; of a mask take `np.flatnonzero(mask)`.
        """
        indices = _integers("indices of tasks", indices)
        rows, draws = np.asarray(self.rows)[indices], np.asarray(self.draws)[indices]
        return dataclasses.replace(self, rows=rows, draws=draws)

    def digest(self) -> str:
        """A hash of the data and of what the starting points are drawn with, not of the loss."""
        found = hashlib.sha256(str(self.seed).encode())
        for leaf in (self.rows, self.draws, *jax.tree.leaves(self.data)):
            array = np.ascontiguousarray(leaf)
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(array.tobytes())
        return found.hexdigest()
