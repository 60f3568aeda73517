"""Meta-training: truncated backpropagation through time over a set of tasks (paper §5)."""

import contextlib
import os
import time
from typing import Any

import jax
import numpy as np

from jax_lbfgs_pi.locks import owned
from jax_lbfgs_pi.policy import Policy, init_policy
from jax_lbfgs_pi.pretrained import policy_digest
from jax_lbfgs_pi.tasks.base import TaskSet
from jax_lbfgs_pi.training.checkpoint import Checkpointer, Position, Snapshot
from jax_lbfgs_pi.training.config import MetaTrainConfig
from jax_lbfgs_pi.training.log import LogFile, MetaTrainLog, OnStep, OuterRecord, read_log
from jax_lbfgs_pi.training.outer import OuterInfo, make_outer_step
from jax_lbfgs_pi.trees import as_count
from jax_lbfgs_pi.unroll import InnerState


def meta_train(
    tasks: TaskSet,
    config: MetaTrainConfig | None = None,
    *,
    policy: Policy | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 50,
    on_step: OnStep | None = None,
    task_sharding: jax.sharding.Sharding | None = None,
) -> tuple[Policy, MetaTrainLog]:
    """Trains a step-size policy.

    Epoch by epoch and task by task (or group by group), the inner optimizer starts from a task's x0
    and is unrolled T times for K steps; after each unroll θ moves, and the next one starts where it
    ended. An unroll that diverged, or whose loss or θ-gradient is not finite, leaves θ alone and is
    counted; a task is left early when its gradient is below `config.grad_tol` or its iterate is no
    longer finite.

    Args:
      tasks: the tasks to train on.
      config: the settings; None is the `paper` preset.
      policy: a policy to go on from; None starts from a random one.
      checkpoint_dir: where to keep checkpoints and `log.jsonl`. A run that was killed goes on from
        the last checkpoint, and ends with bit-identical parameters.
      checkpoint_every: outer steps between checkpoints.
      on_step: called with every `OuterRecord`.
      task_sharding: where the `config.tasks_per_step` tasks of an outer step lie, such as
        `NamedSharding(mesh, PartitionSpec("tasks"))`; None leaves them on one device.

    Returns:
      The policy, its clip in deployed form, and the log.

    Raises:
      TypeError: if `tasks`, `config` or `policy` is none.
      ValueError: if `checkpoint_every` is no count, `checkpoint_dir` holds a run with other
        settings or a damaged one, or another process is at it.
      ImportError: if the clip layer is `cvx` and the extra `cvx` is missing.
    """
    if not isinstance(tasks, TaskSet):
        raise TypeError(f"meta_train trains on a TaskSet, but got a {type(tasks).__name__}.")
    if not isinstance(config, MetaTrainConfig | None):
        raise TypeError(f"config must be a MetaTrainConfig, but got a {type(config).__name__}.")
    if not isinstance(policy, Policy | None):
        raise TypeError(
            f"meta_train goes on from a Policy of the paper's form, but got a "
            f"{type(policy).__name__}: `fine_tune` trains the default's."
        )
    checkpoint_every = as_count("checkpoint_every", checkpoint_every, least=1)
    with contextlib.ExitStack() as open_things:
        if checkpoint_dir is not None:
            open_things.enter_context(owned(checkpoint_dir))
        return _meta_train(
            open_things,
            tasks,
            config or MetaTrainConfig(),
            policy,
            checkpoint_dir,
            checkpoint_every,
            on_step,
            task_sharding,
        )


def _meta_train(
    open_things: contextlib.ExitStack,
    tasks: TaskSet,
    config: MetaTrainConfig,
    policy: Policy | None,
    checkpoint_dir: str | os.PathLike[str] | None,
    checkpoint_every: int,
    on_step: OnStep | None,
    task_sharding: jax.sharding.Sharding | None,
) -> tuple[Policy, MetaTrainLog]:
    if policy is None:
        policy = init_policy(jax.random.key(config.seed), learn_limits=config.learn_limits)
    policy = policy.with_clip_layer(config.clip_layer)
    outer_step = make_outer_step(tasks.task, policy.network, config)
    theta = jax.tree.map(jax.numpy.asarray, policy.params)

    groups = _Groups(tasks, config)

    def stack(position: Position) -> tuple[Any, Any]:
        stacked = tasks.stack(groups.tasks_at(position))
        return stacked if task_sharding is None else jax.device_put(stacked, task_sharding)

    def enter(position: Position) -> tuple[Any, InnerState, np.ndarray, np.ndarray]:
        data, x0 = stack(position)
        inner = outer_step.start(data, x0)
        return data, inner, np.ones(config.tasks_per_step, bool), np.asarray(inner.value)

    position, outer = Position(), outer_step.init(theta)
    data, inner, alive, start_value = enter(position)

    log, checkpointer, log_file = MetaTrainLog(), None, None
    if checkpoint_dir is not None:
        origin = {"tasks": f"{tasks.name}, {len(tasks)} tasks", "start": policy_digest(policy)}
        checkpointer = Checkpointer(checkpoint_dir, config, origin)
        open_things.callback(checkpointer.close)
        snapshot = checkpointer.restore(Snapshot(position, outer, inner, alive, start_value))
        if snapshot is not None:
            position, outer, inner, alive, start_value = snapshot
            log = read_log(checkpoint_dir, before_step=position.step)
            if len(log.records) < position.step:
                raise ValueError(
                    f"The log in {str(checkpoint_dir)!r} holds {len(log.records)} of the "
                    f"{position.step} steps behind its checkpoint: restore log.jsonl, or delete "
                    f"the folder and train again."
                )
            if position.unroll > 0:
                data, _ = stack(position)
        log_file = LogFile(checkpoint_dir, log)
        open_things.callback(log_file.close)

    while position.epoch < config.num_epochs:
        began = time.perf_counter()
        if position.unroll == 0:
            data, inner, alive, start_value = enter(position)
        moved, inner, info = outer_step.step(outer, inner, data, alive, start_value)
        info = jax.device_get(info)
        limits = policy.replace(params=moved.theta).limits  # type: ignore[attr-defined]
        record = _record(position, groups.tasks_at(position), info, alive, limits, began)
        # From here to the snapshot nothing can fail: an interrupt finds either all of the step
        # in these names or none of it.
        alive = alive & np.isfinite(info.last_value) & ~(info.grad_norm < config.grad_tol)
        outer, position = moved, groups.after(position, leave=not alive.any())
        log.records.append(record)
        if log_file is not None:
            log_file.append(record)
        if checkpointer is not None and position.step % checkpoint_every == 0:
            checkpointer.save(Snapshot(position, outer, inner, alive, start_value))
        if on_step is not None:
            on_step(record)
    if checkpointer is not None:
        checkpointer.save(Snapshot(position, outer, inner, alive, start_value))
    trained = policy.replace(params=outer.theta)  # type: ignore[attr-defined]
    return trained.with_clip_layer("clip"), log


class _Groups:
    """The order in which groups of B tasks come: shuffled anew each epoch, the same at each run."""

    def __init__(self, tasks: TaskSet, config: MetaTrainConfig):
        self._config, self._num_tasks = config, len(tasks)
        self.per_epoch = -(-self._num_tasks // config.tasks_per_step)

    def tasks_at(self, position: Position) -> np.ndarray:
        """The indices of the B tasks at a position."""
        rng = np.random.default_rng((self._config.seed, position.epoch))
        order = rng.permutation(self._num_tasks)
        size = self._config.tasks_per_step
        # The last group is filled up from the front, so that every group has one shape.
        return np.resize(order, self.per_epoch * size)[position.group * size :][:size]

    def after(self, position: Position, *, leave: bool) -> Position:
        """Where training stands after an outer step; `leave` ends the group early."""
        step, epoch, group, unroll = position
        unroll += 1
        if leave or unroll == self._config.unrolls_per_start:
            group, unroll = group + 1, 0
        if group == self.per_epoch:
            epoch, group = epoch + 1, 0
        return Position(step + 1, epoch, group, unroll)


def _record(
    position: Position,
    tasks: np.ndarray,
    info: OuterInfo,
    alive: np.ndarray,
    limits: tuple[float, float],
    began: float,
) -> OuterRecord:
    used = np.asarray(info.counted) & alive

    def mean(values: Any) -> float:
        return float(np.mean(np.asarray(values)[used])) if used.any() else float("nan")

    return OuterRecord(
        step=position.step,
        epoch=position.epoch,
        group=position.group,
        unroll=position.unroll,
        tasks=[int(i) for i in tasks],
        loss=mean(info.loss),
        last_value=mean(info.last_value),
        grad_norm=float(np.max(np.asarray(info.grad_norm))),
        num_skipped=int(np.sum(alive & ~np.asarray(info.counted))),
        tau_min=limits[0],
        tau_max=limits[1],
        seconds=time.perf_counter() - began,
    )
