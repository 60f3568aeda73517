import io

import jax
import jax.numpy as jnp
from rich.console import Console

import jax_lbfgs_pi as lp


def fun(x):
    return jnp.sum(jnp.cosh(x - 1.0))


def drawn(**options):
    """What a run shows, and its result."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with lp.progress_bar(40, console=console, **options) as show:
        result = jax.block_until_ready(
            jax.jit(lambda x: lp.minimize(fun, x, max_evals=40, callback=show))(jnp.zeros(3))
        )
    return console.file.getvalue(), result


def test_the_last_picture_is_of_the_last_point():
    text, result = drawn()
    last = result.trajectory.value[result.num_iters]
    assert f"{int(result.num_evals)}/40" in text.rsplit("f ", 1)[1]
    assert text.rsplit("f ", 1)[1].startswith(f"{float(last):.6g}")


def test_another_callback_is_called_and_may_end_the_run():
    seen = []
    _, result = drawn(callback=lambda point: seen.append(int(point.num_evals)) or len(seen) == 3)
    assert seen == [1, 2, 3]
    assert lp.Status(int(result.status)) == lp.Status.STOPPED
