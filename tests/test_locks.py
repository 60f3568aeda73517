"""One process at a time in a folder that is written."""

import subprocess
import sys
import time

import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.cli import EXIT_ERROR, main
from jax_lbfgs_pi.locks import owned
from jax_lbfgs_pi.tasks import quadratic_tasks
from jax_lbfgs_pi.training.evolution_config import EvolutionConfig
from jax_lbfgs_pi.training.evolution_run import LOG, STATE, evolve_in
from tests.marks import some_of

CONFIG = lp.get_preset("fast", num_epochs=1, unroll_length=3, unrolls_per_start=1)
TINY = EvolutionConfig(
    generations=2, families_per_generation=1, tasks_per_family=1, num_pairs=1, num_evals=3,
    memory_sizes=(2,),
)  # fmt: skip
IN_USE = "in use by another run: wait for its end, or choose another folder"


def test_a_folder_belongs_to_one_and_is_free_again_after_an_error(tmp_path):
    with owned(tmp_path):
        for use in (
            lambda: lp.meta_train(quadratic_tasks(1, dim=3), CONFIG, checkpoint_dir=tmp_path),
            lambda: evolve_in(tmp_path, TINY),
        ):
            with pytest.raises(ValueError, match=IN_USE):
                use()
    with pytest.raises(RuntimeError), owned(tmp_path):
        raise RuntimeError
    with owned(tmp_path):
        pass


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--dataset", "quadratic", "--tasks", "1"],
        ["race", "--dataset", "quadratic", "--tasks", "1"],
        ["bench", "--problems", "1", "--kinds", "sphere"],
    ],
)
def test_commands_say_so_in_a_sentence(tmp_path, capsys, words):
    with owned(tmp_path):
        assert main([*words, "--out", str(tmp_path)]) == EXIT_ERROR
    error = " ".join(capsys.readouterr().err.split())
    assert IN_USE in error
    assert "Traceback" not in error


def test_a_killed_process_keeps_nothing(tmp_path):
    code = (
        "import sys, time; from jax_lbfgs_pi.locks import owned\n"
        "with owned(sys.argv[1]): print('in', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"in\n"
    with pytest.raises(ValueError, match=IN_USE), owned(tmp_path):
        pass
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while True:
        try:
            with owned(tmp_path):
                return
        except ValueError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_log_that_is_shorter_than_its_checkpoint_is_named(tmp_path):
    tasks = quadratic_tasks(3, dim=3)
    lp.meta_train(tasks, CONFIG, checkpoint_dir=tmp_path)
    path = tmp_path / "log.jsonl"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"holds 0 of the 1 steps behind its checkpoint: restore"):
        lp.meta_train(tasks, CONFIG, checkpoint_dir=tmp_path)
    path.write_text(whole)
    lp.meta_train(tasks, CONFIG, checkpoint_dir=tmp_path)


@pytest.mark.parametrize("name", some_of([LOG, STATE], quick=(1,)))
def test_a_damaged_evolution_is_named(tmp_path, name):
    evolve_in(tmp_path, TINY)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"The file '{name}' in .* is damaged, or shorter"):
        evolve_in(tmp_path, TINY)
