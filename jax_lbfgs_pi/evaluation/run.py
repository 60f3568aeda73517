"""What one optimizer did on one task."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Run:
    """One optimizer on one task; arrays of shape `(num_iters + 1,)`, one entry for each iterate.

    Attributes:
      value: f(x_k).
      grad_norm: the gradient norm at x_k.
      step_size: t of the step that leaves x_k; NaN at the last, and for optimizers without one.
      num_evals: evaluations of f made until x_k was known.
      seconds: wall-clock time until then; read every 25 iterations, in between in proportion to
        the evaluations.
      status: a `Status`.
    """

    value: np.ndarray
    grad_norm: np.ndarray
    step_size: np.ndarray
    num_evals: np.ndarray
    seconds: np.ndarray
    status: int
