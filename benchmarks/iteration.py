"""A whole iteration on the MLP (1, 20), as a ratio to one evaluation in the same framework.

An iteration is what a user's loop does: evaluate f and its gradient, ask the optimizer, apply the
update. L-BFGS-π evaluates once; line searches evaluate until they are content. Every solver starts
from the same x0, and its first `SKIPPED` iterations, in which the history fills, are not timed.
SciPy and optimistix can be told apart from their evaluations alone: SciPy's time is that of a whole
solve over its evaluations, and each step of optimistix is one trial of its search. The images are
arguments of every jitted function: as constants they would be laid out for each of them anew.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure
from rich.table import Table

import jax_lbfgs_pi as lp
from benchmarks import iteration_peers, peers
from benchmarks.problems import MLPTask, mlp_task
from benchmarks.report import Options, table
from benchmarks.timing import Candidate, Stateful, compare

MEMORY_SIZE = 5
SKIPPED = 10
GUARD = lp.Guard()
Loss = Callable[[Any, Any], Any]  # of parameters and data


def pi_iteration(loss: Loss, x0: Any, *, guard: lp.Guard | None = GUARD) -> tuple[Any, Any]:
    """`(step, start)` of L-BFGS-π."""
    tx = lp.lbfgs_pi(lp.init_policy(jax.random.key(0)), memory_size=MEMORY_SIZE, guard=guard)

    def step(carry: Any, data: Any) -> tuple[Any, Any]:
        params, state, num_evals = carry
        value, grads = jax.value_and_grad(loss)(params, data)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state, num_evals + 1), value

    return step, (x0, tx.init(x0), jnp.zeros((), int))


def optax_iteration(loss: Loss, x0: Any) -> tuple[Any, Any]:
    """`(step, start)` of `optax.lbfgs` with its zoom line search, as in optax's documentation."""
    tx = optax.lbfgs(memory_size=MEMORY_SIZE)

    def step(carry: Any, data: Any) -> tuple[Any, Any]:
        def fun(params: Any) -> Any:
            return loss(params, data)

        params, state, num_evals = carry
        value, grads = optax.value_and_grad_from_state(fun)(params, state=state)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=fun)
        num_evals += optax.tree.get(state, "num_linesearch_steps")
        return (optax.apply_updates(params, updates), state, num_evals), value

    return step, (x0, tx.init(x0), jnp.zeros((), int))


def iterate(
    step: Callable[[Any, Any], tuple[Any, Any]], start: Any, data: Any
) -> tuple[Stateful, Callable]:
    """The jitted step with its state donated, and the set-up that goes to iteration `SKIPPED`."""
    stepper = Stateful(jax.jit(step, donate_argnums=0), start, [(data,)])

    def setup() -> Any:
        stepper.state = jax.tree.map(jnp.copy, start)  # the step will donate it
        for _ in range(SKIPPED):
            stepper()
        return stepper.state

    return stepper, setup


def _candidates(problem: MLPTask, num_iters: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is timed, and for each solver how to read its mean evaluations per iteration."""
    loss, x0, data = problem.task.loss, problem.x0, problem.data
    timed: dict[str, Any] = {}
    evaluations: dict[str, Callable[[], float]] = {}

    def add(name: str, step: Any, start: Any, num_evals: Callable[[Any], Any]) -> None:
        stepper, setup = iterate(step, start, data)
        timed[name] = Candidate(stepper, setup, calls=num_iters)

        def count() -> float:
            setup()
            before = int(num_evals(stepper.state))
            for _ in range(num_iters):
                stepper()
            values = [leaf for leaf in jax.tree.leaves(stepper.state) if leaf.ndim]
            if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in values):
                raise AssertionError(f"{name} left the finite numbers.")
            return (int(num_evals(stepper.state)) - before) / num_iters

        evaluations[name] = count

    value_and_grad = jax.jit(jax.value_and_grad(loss))
    timed["value_and_grad"] = Candidate(lambda: value_and_grad(x0, data), calls=num_iters)
    add("L-BFGS-π", *pi_iteration(loss, x0), lambda carry: carry[2])
    add("L-BFGS-π, guard=None", *pi_iteration(loss, x0, guard=None), lambda c: c[2])
    add("optax.lbfgs (zoom)", *optax_iteration(loss, x0), lambda carry: carry[2])
    if peers.load("jaxopt"):
        step, start = iteration_peers.jaxopt_iteration(loss, x0, data, MEMORY_SIZE)
        add("jaxopt.LBFGS (zoom)", step, start, lambda carry: carry[1].num_fun_eval)
    if peers.load("optimistix"):
        step, start = iteration_peers.optimistix_iteration(loss, x0, data, MEMORY_SIZE)
        add("optimistix.LBFGS, a trial", step, start, lambda carry: carry[2])
    return timed, evaluations


def measure(options: Options) -> dict[str, Any]:
    """Times all solvers that are installed."""
    problem = mlp_task()
    num_iters = 10 if options.quick else 40
    timed, evaluations = _candidates(problem, num_iters)
    scipy_solve = torch_timed = None
    if peers.load("scipy"):
        scipy_solve = iteration_peers.ScipySolve(problem, MEMORY_SIZE, SKIPPED + num_iters)
        timed["SciPy L-BFGS-B, an evaluation"] = Candidate(scipy_solve, calls=1)
    if peers.load("torch"):
        torch_timed, evaluations["torch.optim.LBFGS (t = 1)"] = iteration_peers.torch_candidates(
            problem, MEMORY_SIZE, SKIPPED, num_iters
        )
        timed |= torch_timed

    for phase in options.track(("time", "count"), "iteration"):
        if phase == "time":
            timing = compare(
                timed,
                budget=3.0 if options.quick else 60.0,
                least=3 if options.quick else 5,
                most=50,
                warm_up=1,
            )
        else:
            counts = {name: count() for name, count in evaluations.items()}
    seconds = dict(timing.seconds)
    if scipy_solve is not None:
        num_evals, scipy_iters = scipy_solve.counts
        seconds["SciPy L-BFGS-B, an evaluation"] /= num_evals
        counts["SciPy L-BFGS-B, an evaluation"] = num_evals / scipy_iters

    rows = []
    for name in seconds:
        unit = "torch value_and_grad" if name.startswith("torch") else "value_and_grad"
        evals = 1.0 if name == unit else counts[name]
        ratio = seconds[name] / seconds[unit]
        rows.append({"name": name, "seconds": seconds[name], "ratio": ratio, "evals": evals})
    return {
        "images": problem.source,
        "num_iters": num_iters,
        "rows": rows,
        "seconds": seconds,
        "spread": timing.spread,
        "repetitions": timing.repetitions,
        "notes": peers.missing("jaxopt", "optimistix", "scipy", "torch"),
    }


def tables(results: dict[str, Any]) -> list[Table]:
    """Ratios to one evaluation, and the evaluations that an iteration makes."""
    header = ["an iteration of", "ms", "/eval", "evals/iter", "reps"]
    rows = [
        [row["name"], 1e3 * row["seconds"], row["ratio"], float(row["evals"]),
         results["repetitions"]]
        for row in results["rows"]
    ]  # fmt: skip
    title = f"iteration: MLP (1,20), m = {MEMORY_SIZE}, {results['images']}"
    return [table(title, header, rows)]


def figures(results: dict[str, Any]) -> dict[str, Figure]:
    """None: the table says it all."""
    del results
    return {}
