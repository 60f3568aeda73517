"""Eight host devices, in one process and in two; see sharded.py for what runs there."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lbfgs_pi as lp
from tests.marks import some_of
from tests.sharded_problem import least_squares, optimize, start

ROOT = Path(__file__).parents[1]
KINDS = ["auto", "explicit"]


def run(check, kind, num_processes=1):
    # One device a process if there are two: more wait for each other on too few threads.
    few = check == "shard_map"  # its loops have collectives at every turn
    num_devices = 1 if num_processes > 1 else 2 if few else 8
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.sharded", str(num_devices), str(num_processes)]
    processes = [
        subprocess.Popen(
            [*command, str(i), str(port), f"{check},{kind}"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(num_processes)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return json.loads(outputs[0][0].splitlines()[-1])


@pytest.fixture(scope="module")
def on_one_device():
    """The same optimization, unsharded: plain JAX on one device."""
    params, *_ = optimize(jax.tree.map(jnp.asarray, start("abcd")))
    return params


@pytest.mark.parametrize(
    ("kind", "num_processes"),
    some_of([("auto", 1), ("explicit", 1), ("auto", 2)], quick=(0,)),
)
def test_sharded_iterates_equal_unsharded_ones(kind, num_processes, on_one_device):
    for result in run("iterates", kind, num_processes).values():
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
            {name: np.array(leaf) for name, leaf in result["params"].items()},
            {name: np.asarray(leaf) for name, leaf in on_one_device.items()},
        )
        part = 1 / 8 if num_processes == 1 else 1 / 2
        share = {"a": part, "b": part, "c": part, "d": 1.0}
        assert result["share"] == share
        assert result["share_after"] == share


@pytest.mark.parametrize("kind", some_of(KINDS, quick=(0,)))
def test_two_all_reduces_a_step_and_nothing_else(kind):
    found = run("all_reduces", kind)
    assert len(found) == 12
    for case, collectives in found.items():
        assert collectives == ["all-reduce"] * len(collectives), case
        assert 1 <= len(collectives) <= 2, case


@pytest.mark.parametrize("kind", some_of(["few", "whole", "many"], quick=(2,)))
def test_rows_of_h_lie_on_several_devices(kind):
    """Of n below 8, 8 and 179 on eight: an eighth of the rows each, and one all-gather a step."""
    found = run("rows_of_h", kind)
    names, n = {"few": ("d", 3), "whole": ("c", 8), "many": ("abcd", 179)}[kind]
    for memory in ("dense", "full"):
        result = found[memory]
        assert result["collectives"] == ["all-gather"]
        assert result["parts"] == [[-(-n // 8), n]] * 2
        params, *_ = optimize(
            jax.tree.map(jnp.asarray, start(names)), tx=lp.lbfgs_pi(memory_size=memory)
        )
        for name, leaf in params.items():
            np.testing.assert_allclose(
                np.array(result["params"][name]), np.asarray(leaf), rtol=1e-7, atol=1e-7
            )


@pytest.mark.slow
def test_meta_training_over_a_task_axis_equals_one_device():
    result = run("meta_training", "auto")
    for frozen in ("True", "False"):
        one, many = result[f"one {frozen}"], result[f"many {frozen}"]
        np.testing.assert_allclose(many["theta"], one["theta"], rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(many["loss"], one["loss"], rtol=1e-10)
        assert len(one["loss"]) == 4


@pytest.mark.parametrize("kind", ["checked", pytest.param("unchecked", marks=pytest.mark.slow)])
def test_within_shard_map(kind):
    """A problem of its own in each shard, or one of all: with varying axes checked, and without.

    Derivatives are refused where they are.
    """
    found = run("shard_map", kind)
    centres = np.arange(1.0, 5.0)[:, None]
    np.testing.assert_allclose(found.pop("by data"), np.tile(centres[:2], 2), atol=1e-6)
    np.testing.assert_allclose(found.pop("mapped"), np.tile(centres, 2), atol=1e-6)
    np.testing.assert_allclose(found.pop("by start"), np.ones((2, 2)), atol=1e-6)
    np.testing.assert_allclose(found.pop("scan"), np.ones((2, 2)), atol=1e-6)
    derivative = found.pop("derivative")  # of the sum of two variables, each at the centre
    np.testing.assert_allclose(derivative, [] if kind == "checked" else [2.0, 2.0], atol=1e-6)
    assert len(found) == (2 if kind == "checked" else 0)
    solution = np.linalg.lstsq(*least_squares())[0]
    for x in found.values():
        np.testing.assert_allclose(x, solution, atol=1e-6)
