"""One meta-training outer step, forward, backward and ADADELTA, with each clip layer.

On the MLP (1, 20) with K = 50 and m = 5, the paper's protocol. The yardstick is the K evaluations
that no implementation can do without, made one after the other. They get the data as an argument,
as the outer step does: as a constant, XLA would lay it out in advance. The rival is the paper's
stack (`torch_meta`), which is first shown to compute the same loss and the same θ-gradient.
"""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from rich.table import Table

import jax_lbfgs_pi as lp
from benchmarks import peers
from benchmarks.problems import MLPTask, mlp_task
from benchmarks.report import Options, table
from benchmarks.timing import Candidate, compare
from jax_lbfgs_pi.training.outer import make_outer_step

CLIP_LAYERS = ("implicit", "clip", "cvx")
CHECK_STEPS = 5  # few, as an unroll amplifies the solver's error of some 1e-9
AGREEMENT = 1e-4


def torch_peer() -> Any:
    """The module `torch_meta`, or None without PyTorch or cvxpylayers."""
    if peers.load("torch") is None or peers.load("cvxpylayers") is None:
        return None
    from benchmarks import torch_meta

    return torch_meta


def check_torch_agrees(problem: MLPTask, num_steps: int = CHECK_STEPS) -> dict[str, float]:
    """Asserts that PyTorch's loss and θ-gradient are ours, from one θ, x0 and data.

    Returns:
      The relative errors.
    """
    torch_meta = torch_peer()
    import torch

    policy = lp.init_policy(jax.random.key(0), clip_layer="implicit")
    config = lp.get_preset("paper", unroll_length=num_steps)

    def loss_of(theta: Any) -> Any:
        tx = lp.lbfgs_pi(policy.replace(params=theta), memory_size=config.memory_size, guard=None)
        fun = partial(_objective, problem)
        _, trajectory = lp.unroll(tx, fun, lp.init_inner(tx, fun, problem.x0), num_steps)
        return trajectory.value.sum()

    loss, grads = jax.jit(jax.value_and_grad(loss_of))(policy.params)
    theirs = torch_meta.TorchPolicy(policy.params)
    their_loss, _ = torch_meta.unroll(
        theirs,
        torch_meta.frozen_evaluate(problem.data),
        torch.tensor(np.asarray(ravel_pytree(problem.x0)[0])),
        num_steps=num_steps,
        memory_size=config.memory_size,
    )
    their_loss.backward()
    a, b = ravel_pytree(grads["params"])[0], ravel_pytree(torch_meta.theta_grad(theirs))[0]
    errors = {
        "loss": abs(their_loss.item() - float(loss)) / abs(float(loss)),
        "theta_gradient": float(np.linalg.norm(a - b) / np.linalg.norm(a)),
    }
    if not max(errors.values()) < AGREEMENT:
        raise AssertionError(f"PyTorch's outer step is another one; relative errors {errors}.")
    return errors


def _objective(problem: MLPTask, params: Any) -> Any:
    return problem.task.loss(params, problem.data)


def our_steps(problem: MLPTask, layers: tuple[str, ...], num_steps: int) -> dict[str, Any]:
    """The compiled outer step with each clip layer, from one start."""
    data, x0 = jax.tree.map(lambda leaf: leaf[None], (problem.data, problem.x0))
    alive = np.ones(1, bool)

    def one(layer: str) -> Any:
        policy = lp.init_policy(jax.random.key(0), clip_layer=layer)
        config = lp.get_preset("paper", clip_layer=layer, unroll_length=num_steps)
        parts = make_outer_step(problem.task, policy.network, config)
        outer, inner = parts.init(policy.params), parts.start(data, x0)
        return partial(parts.step, outer, inner, data, alive, inner.value)

    return {layer: one(layer) for layer in layers}


def torch_steps(problem: MLPTask, num_steps: int) -> dict[str, Candidate]:
    """PyTorch's evaluation and outer step; every repetition begins with the same θ."""
    torch_meta = torch_peer()
    import torch

    theta = lp.init_policy(jax.random.key(0)).params
    evaluate = torch_meta.frozen_evaluate(problem.data)
    x0 = torch.tensor(np.asarray(ravel_pytree(problem.x0)[0]))
    fresh = {}

    def setup() -> None:
        fresh["policy"] = torch_meta.TorchPolicy(theta)
        fresh["optimizer"] = torch_meta.adadelta(fresh["policy"])

    def call() -> Any:
        options = {"num_steps": num_steps, "memory_size": 5}
        return torch_meta.outer_step(fresh["policy"], fresh["optimizer"], evaluate, x0, **options)[
            0
        ]

    return {
        "torch value_and_grad": Candidate(lambda: evaluate(x0), calls=num_steps),
        "torch": Candidate(call, setup, calls=1),
    }


def measure(options: Options) -> dict[str, Any]:
    """Times the layers against evaluations, then against PyTorch."""
    problem, num_steps = mlp_task(), lp.get_preset("paper").unroll_length
    phases = ("clip layers", "PyTorch")
    if options.quick:
        phases, layers = phases[:1], ("clip",)
        notes = ["To be quick the other clip layers and PyTorch are left out."]
    else:
        notes = peers.missing("moreau", "torch", "cvxpylayers")
        layers = CLIP_LAYERS if peers.load("moreau") else CLIP_LAYERS[:-1]
    evaluate = jax.jit(jax.value_and_grad(problem.task.loss))
    evaluations = Candidate(partial(evaluate, problem.x0, problem.data), calls=num_steps)
    steps = our_steps(problem, layers, num_steps)
    results = {"num_steps": num_steps, "images": problem.source}

    for phase in options.track(phases, "meta_step"):
        if phase == "clip layers":
            ours = compare(
                {"value_and_grad": evaluations, **steps},
                budget=2.0 if options.quick else 20.0,
                least=3 if options.quick else 10,
                most=100,
                warm_up=1,
            )
            results["ours"] = ours._asdict()
        elif torch_peer() is not None:
            rivals = torch_steps(problem, num_steps)
            threads = peers.set_torch_threads(rivals["torch value_and_grad"].call)
            results["torch_threads"] = threads
            results["torch_errors"] = check_torch_agrees(problem)
            both = compare(
                {**steps, **rivals},
                budget=30.0,
                least=10,
                most=30,
                warm_up=1,
            )
            results["torch"] = both._asdict()
    return {**results, "notes": notes}


def tables(results: dict[str, Any]) -> list[Table]:
    """Outer steps over evaluations, and PyTorch's over ours."""
    ours, theirs, num_steps = results["ours"], results.get("torch"), results["num_steps"]
    floor = num_steps * ours["seconds"]["value_and_grad"]
    rows = []
    for layer in (name for name in CLIP_LAYERS if name in ours["seconds"]):
        seconds = ours["seconds"][layer]
        speedup = theirs and theirs["seconds"]["torch"] / theirs["seconds"][layer]
        reps = theirs and theirs["repetitions"]
        rows.append(
            [f"ours, {layer}", 1e3 * seconds, seconds / floor, ours["repetitions"], speedup, reps]
        )
    if theirs is not None:
        seconds = theirs["seconds"]["torch"]
        in_evals = seconds / (num_steps * theirs["seconds"]["torch value_and_grad"])
        rows.append(["PyTorch, cvxpylayers", 1e3 * seconds, in_evals, reps, 1.0, reps])
    header = ["outer step", "ms", f"/{num_steps} own evals", "reps", "PyTorch/this", "reps"]
    title = f"meta_step: K = {num_steps}, m = 5, MLP (1,20), {results['images']}"
    return [table(title, header, rows)]


def figures(results: dict[str, Any]) -> dict[str, Figure]:
    """None: the table says it all."""
    del results
    return {}
