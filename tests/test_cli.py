import re
import shutil
import signal
import sys
import time
import weakref
from functools import partial

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import cli
from jax_lbfgs_pi.baselines import baselines
from jax_lbfgs_pi.bench import FAVOURITE
from jax_lbfgs_pi.cli import main
from jax_lbfgs_pi.cli.train_paper import skip_warning, standstill_warning
from jax_lbfgs_pi.evaluation import load_results
from jax_lbfgs_pi.policy import General
from jax_lbfgs_pi.pretrained import DEFAULT
from jax_lbfgs_pi.suite import REGISTRY, list_problems
from tests.command_line import assert_one_error, strict_json
from tests.pages import Page, markdown_tables

BASELINES = baselines()

PNG = b"\x89PNG\r\n\x1a\n"
TRAIN = ["train", "--dataset", "quadratic", "--tasks", "2", "--epochs", "1"]
RACE = ["race", "--dataset", "quadratic", "--tasks", "2", "--max-iters", "6"]
AGAINST = ["--against", "ADAM", "L-BFGS-BTLS"]


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    """A plain terminal of 80 columns, whatever the one that runs the tests."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def command(capsys):
    """Runs a command line: exit status, standard output and standard error."""

    def run(*argv):
        capsys.readouterr()
        try:
            status = main([str(arg) for arg in argv])
        except SystemExit as end:  # argparse's
            status = end.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small training run; read, never written."""
    folder = tmp_path_factory.mktemp("trained")
    assert main([*TRAIN, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def raced(trained, tmp_path_factory):
    """The folder of a small race of that run's policy; read, never written."""
    folder = tmp_path_factory.mktemp("raced")
    policy = str(trained / "policy.safetensors")
    assert main([*RACE, *AGAINST, "--policy", policy, "--out", str(folder)]) == 0
    return folder


def theta(path):
    return np.asarray(ravel_pytree(lp.load_policy(path).params)[0])


# --- help, and what is no command -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (None, ["demo", "train", "race", "bench", "reproduce", "policies"]),
        ("demo", ["--problems", "--epochs", "--tasks", "--seed", "--out", "--json"]),
        ("train", ["--dataset", "--size", "--tasks", "--epochs", "--init-from", "--out", "--json"]),
        ("race", ["--task", "--policy", "--against", "--split", "--guard", "--max-iters", "--out"]),
        ("bench", ["--suite", "--kinds", "--policy", "--against", "--budget", "--out", "--json"]),
        ("policies", ["name", "--json"]),
    ],
)
def test_help_names_every_option(command, name, options):
    status, out, err = command(*([name] if name else []), "--help")
    assert (status, err) == (0, "")
    assert out.startswith("usage: lbfgs-pi")
    for option in options:
        assert option in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["train", "--dataset", "imagenet"], "invalid choice: 'imagenet'"),
        (["train", "--size", "20"], "expected two integers as in 1,20, got '20'"),
        (["train", "--size", "1,x"], "expected two integers as in 1,20, got '1,x'"),
        (["race", "--split", "train"], "invalid choice: 'train'"),
        (["race", "--max-iters", "many"], "expected an integer of at least 1, got 'many'"),
        (["race", "--max-iters", "-1"], "--max-iters: expected an integer of at least 1, got '-1'"),
        (["train", "--epochs", "0"], "--epochs: expected an integer of at least 1, got '0'"),
        (["demo", "--epochs", "0"], "--epochs: expected an integer of at least 1, got '0'"),
        (["train", "--max-grad-norm", "0"], "--max-grad-norm: expected a number above 0, got '0'"),
        (["train", "--max-grad-norm", "nan"], "expected a number above 0, got 'nan'"),
        (["race", "--grad-targets", "1e-3", "-1"], "--grad-targets: expected a number above 0"),
        (["train", "--tasks", "0"], "--tasks: expected an integer of at least 1, got '0'"),
        (["race", "--tasks", "-2"], "--tasks: expected an integer of at least 1, got '-2'"),
        (["bench", "--budget", "0"], "--budget: expected an integer of at least 1, got '0'"),
        (["bench", "--problems", "0"], "--problems: expected an integer of at least 1, got '0'"),
        (["race", "--memory", "2.5"], "--memory: expected an integer of at least 1, got '2.5'"),
        (["race", "--guard", "1.0"], "unrecognized arguments: 1.0"),
        (["bench", "--suite", "train"], "invalid choice: 'train'"),
        (["train", "--seed", "-1"], "--seed: expected an integer of at least 0, got '-1'"),
        (["demo", "--seed", str(10**20)], "--seed: expected an integer below 2^63"),
    ],
)
def test_what_cannot_be_parsed(command, argv, part):
    assert_one_error(command(*argv), part)


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["race", "--policy", "cosin"], "Unknown policy 'cosin'"),
        (["train", "--init-from", "cosin"], "Unknown policy 'cosin'"),
        (["train", "--init-from", "rule"], "'rule' is no network of the paper's form"),
        (["policies", "cosin"], "Unknown policy 'cosin'"),
        (["race", "--against", "ADAM", "SGD"], "Unknown competitor 'SGD'"),
        (["bench", "--against", "ADAM", "SGD"], "Unknown competitor 'SGD'"),
        (["bench", "--policy", "cosin"], "Unknown policy 'cosin'"),
        (["race", "--dataset", "mnist", "--split", "dev"], "mnist has no split 'dev'"),
        (["race", "--seed", "1"], "A race on a data set does not read --seed"),
        (["race", "--task", "a:b", "--size", "1,30"], "--task does not read --size"),
        (["train", "--generations", "3"], "The preset fast does not read --generations"),
        (["train", "--memory", "7"], "The preset fast does not read --memory"),
        (["train", "--preset", "general", "--evals", "7"], "general does not read --evals"),
        (
            ["train", "--dataset", "quadratic", "--size", "2,20"],
            "The data set quadratic does not read --size",
        ),
        (["train", "--size", "0,0", "--tasks", "1"], "0"),
    ],
)
def test_what_can_be_parsed_but_not_be_done(command, tmp_path, argv, part):
    if argv[0] != "policies":
        argv = [*argv, "--out", tmp_path / "out"]
    assert_one_error(command(*argv), part)


def test_ctrl_c_within_a_collectors_callback_is_not_lost(monkeypatch, request):
    """Python reports what such a callback raises, and goes on."""
    # What runs behind a shell's `&` ignores Ctrl-C, and would here as well.
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(cli, "main", lambda: 0)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with pytest.raises(SystemExit):
        cli.command()

    class Node:
        pass

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    node = Node()
    reference = weakref.ref(node, interrupted)
    del node  # calls back, and goes on
    assert reference() is None
    with pytest.raises(KeyboardInterrupt):
        time.sleep(10)
    monkeypatch.undo()


def test_missing_data_says_what_to_do(command, monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="needs the extra 'data'")
    pytest.importorskip("array_record", reason="needs the extra 'data'")
    monkeypatch.setenv("JAX_LBFGS_PI_CACHE", str(tmp_path / "cache"))
    result = command(
        "race", "--dataset", "mnist", "--data-dir", tmp_path, "--out", tmp_path / "out"
    )
    assert_one_error(result, "download_and_prepare()", "'digits'")


def test_a_damaged_policy_file_is_one_line(command, trained, tmp_path):
    path = tmp_path / "p.safetensors"
    path.write_bytes((trained / "policy.safetensors").read_bytes()[:-9])
    assert_one_error(command(*RACE, "--policy", path, "--out", tmp_path / "out"), "truncated")


def test_an_output_folder_that_cannot_be_made_is_one_line(command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert_one_error(command(*RACE, "--out", tmp_path / "file" / "out"), "file")


def test_errors_that_are_not_ours_keep_their_traceback(monkeypatch, tmp_path):
    """A bug must not look like a wrong option."""

    def broken(*args, **kwargs):
        raise ValueError("a bug")

    monkeypatch.setattr("jax_lbfgs_pi.cli.train_paper.train", broken)
    with pytest.raises(ValueError, match="a bug"):
        main([*TRAIN, "--out", str(tmp_path)])


def test_an_interrupt_says_how_to_go_on(command, monkeypatch, tmp_path):
    """And promises nothing where there is nothing to go on from."""

    def interrupt(*args, **kwargs):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        (tmp_path / "settings.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("jax_lbfgs_pi.cli.train_paper.train", interrupt)
    status, out, err = command(*TRAIN, "--out", tmp_path)
    assert (status, out) == (130, "")
    assert "Nothing was saved yet: the same command begins anew." in " ".join(err.split())
    (tmp_path / "checkpoints" / "50").write_text("something")
    status, out, err = command(*TRAIN, "--out", tmp_path)
    assert (status, out) == (130, "")
    assert f"The same command with --out {tmp_path} goes on" in " ".join(err.split())


# --- train ----------------------------------------------------------------------------------------


def test_training_writes_policy_log_figure_and_summary(trained):
    policy = lp.load_policy(trained / "policy.safetensors")
    assert isinstance(policy, lp.Policy)
    assert policy.network.clip_layer == "clip"
    records = [strict_json(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1]
    assert (trained / "loss.png").read_bytes().startswith(PNG)
    summary = strict_json((trained / "summary.json").read_text())
    assert (summary["num_tasks"], summary["outer_steps"]) == (2, 2)
    assert summary["policy"] == str(trained / "policy.safetensors")
    (epoch,) = summary["epochs"]
    np.testing.assert_allclose(epoch["loss"], np.mean([record["loss"] for record in records]))
    np.testing.assert_allclose(epoch["first_unroll"], records[0]["loss"])
    assert summary["provenance"]["x64"] is True
    page = Page((trained / "report.html").read_text())
    ((_, row),) = page.tables
    assert row == [
        "1", *(f"{epoch[key]:.4g}" for key in ("first_unroll", "loss", "last_value")), "2", "0"
    ]  # fmt: skip
    assert summary["provenance"]["command"] in page.texts["dd"]


def test_training_moves_the_seeded_policy(trained):
    start = ravel_pytree(lp.init_policy(jax.random.key(0)).params)[0]
    moved = np.abs(theta(trained / "policy.safetensors") - np.asarray(start))
    assert 0 < moved.max() < 0.1


def test_a_second_identical_call_changes_nothing(command, trained, tmp_path):
    status, out, _ = command(*TRAIN, "--out", tmp_path)
    assert status == 0
    policy, log = ((tmp_path / name).read_bytes() for name in ("policy.safetensors", "log.jsonl"))
    assert policy == (trained / "policy.safetensors").read_bytes()  # elsewhere, the same
    assert command(*TRAIN, "--out", tmp_path)[:2] == (0, out)
    assert (tmp_path / "policy.safetensors").read_bytes() == policy
    assert (tmp_path / "log.jsonl").read_bytes() == log  # not a step was taken again


def test_a_warning_where_more_than_half_of_the_unrolls_were_skipped():
    assert skip_warning(0, 0) is None
    assert skip_warning(6, 12) is None
    assert "7 of 12 unrolls (58%) were skipped" in (skip_warning(7, 12) or "")


def test_standing_still_is_said_with_its_cause():
    assert standstill_warning([]) is None
    assert standstill_warning([3.0, 2.0, 1.0, 0.9]) is None
    assert standstill_warning([3.0, 2.0, 2.0, 2.0]) is None  # too short to be sure
    assert standstill_warning([2.0, 2.0, 2.0, None]) is None
    said = standstill_warning([3.0, 2.0, 2.0, 2.0, 2.0 + 1e-9]) or ""
    assert "since epoch 2, for 3 epochs" in said
    assert "--learn-limits" in said
    assert "since epoch 1" in (standstill_warning([5.0] * 9) or "")


def test_training_prints_a_table_that_fits_and_the_next_command(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(*TRAIN, "--out", "mine")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "2 outer steps" in out
    assert "F, first unrolls" in out
    assert "…" not in out
    assert "training" in err or "epoch" in err  # the progress bar, beside the results
    assert "warning" not in err
    (advice,) = [line for line in out.splitlines() if "lbfgs-pi race" in line]
    argv = advice.split("lbfgs-pi ")[1].split()
    assert command(*argv, "--tasks", 1, "--max-iters", 2, "--against", "ADAM")[0] == 0


def test_the_advice_can_be_pasted_even_if_the_path_is_long(command, tmp_path):
    folder = tmp_path / ("a-rather-long-name-for-a-folder-" * 4)
    status, out, _ = command(*TRAIN, "--out", folder)
    assert status == 0
    assert f"--policy {folder / 'policy.safetensors'}" in out  # in one line


@pytest.mark.parametrize(
    "change",
    [
        ["--seed", "1"],
        ["--tasks", "3"],
        ["--epochs", "2"],
        ["--dataset", "logistic"],
        ["--learn-limits"],
        ["--loss", "mean_log"],
        ["--max-grad-norm", "3"],
        ["--clip-layer", "clip"],
        ["--init-from", "cosine"],
    ],
    ids=" ".join,
)
def test_other_settings_in_the_same_folder_are_refused(command, trained, tmp_path, change):
    folder = shutil.copytree(trained, tmp_path / "copy")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert_one_error(command(*TRAIN, *change, "--out", folder), "other settings or tasks")
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before


def test_training_goes_on_from_a_policy(command, trained, tmp_path):
    """Two steps of Adam at 3e-3 do not lead far away from where they start."""
    assert command(*TRAIN, "--init-from", "cosine", "--out", tmp_path / "a")[0] == 0
    moved = np.abs(theta(tmp_path / "a" / "policy.safetensors") - theta("cosine"))
    assert 0 < moved.max() < 0.1
    file = trained / "policy.safetensors"
    assert command(*TRAIN, "--init-from", file, "--out", tmp_path / "b")[0] == 0
    moved = np.abs(theta(tmp_path / "b" / "policy.safetensors") - theta(file))
    assert 0 < moved.max() < 0.1


@pytest.mark.slow
def test_learned_limits_can_be_raced(command, tmp_path):
    """From training through the file to a race."""
    assert command(*TRAIN, "--learn-limits", "--out", tmp_path / "a")[0] == 0
    file = tmp_path / "a" / "policy.safetensors"
    assert theta(file).size == 206
    result = command(*RACE, "--against", "ADAM", "--policy", file, "--out", tmp_path / "b")
    assert result[0] == 0


# --- race -----------------------------------------------------------------------------------------


def test_a_race_writes_reports_and_figures(raced, trained):
    for name in ("curves.png", "advantage.png"):
        assert (raced / name).read_bytes().startswith(PNG)
    report = strict_json((raced / "report.json").read_text())
    assert report["num_tasks"] == 2
    assert report["settings"]["policy"] == str(trained / "policy.safetensors")
    assert report["provenance"]["x64"] is True
    for lines in report["by"].values():
        assert [line["name"] for line in lines] == ["L-BFGS-π", "ADAM", "L-BFGS-BTLS"]
    text = (raced / "report.md").read_text()
    assert text.count("L-BFGS-BTLS") == 4
    page = Page((raced / "report.html").read_text())
    assert page.tables == markdown_tables(text)
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 2
    for known in (report["settings"]["policy_digest"], report["provenance"]["jax"]):
        assert known in page.texts["dd"]


def races(trained, folder, *options):
    return [
        *RACE, *AGAINST, "--policy", trained / "policy.safetensors", "--out", folder, *options,
    ]  # fmt: skip


def test_a_race_prints_tables_of_80_columns(command, raced, trained):
    """And a race that has ended is not run again: even its seconds are the same."""
    before = (raced / "report.md").read_bytes()
    runs = {path: path.read_bytes() for path in (raced / "runs").iterdir()}
    status, out, err = command(*races(trained, raced))
    assert status == 0
    table = [line for line in out.splitlines() if line.startswith(("┏", "┃", "┡", "│", "└"))]
    assert len(table) > 20
    assert max(map(len, table)) <= 80
    assert "…" not in out
    for part in ("ADAM", "‖g‖<1e-3", "f<1e-2", "wins / ties"):
        assert part in out
    assert "6/6" in err
    assert (raced / "report.md").read_bytes() == before
    assert {path: path.read_bytes() for path in (raced / "runs").iterdir()} == runs


@pytest.mark.parametrize(
    "change",
    [
        ["--max-iters", "7"],
        ["--policy", "cosine"],
        ["--dataset", "logistic"],
        ["--split", "dev"],
        ["--guard"],
    ],
    ids=" ".join,
)
def test_another_race_in_the_same_folder_is_refused(command, raced, trained, change):
    assert_one_error(command(*races(trained, raced), *change), "results of another race")


@pytest.mark.parametrize(
    ("options", "guard"),
    [
        (["--policy", "cosine"], None),
        pytest.param(["--policy", "cosine", "--guard"], lp.Guard(), marks=pytest.mark.slow),
        pytest.param(["--policy", "rule"], lp.Guard(), marks=pytest.mark.slow),
        pytest.param([], lp.Guard(), marks=pytest.mark.slow),
    ],
)
def test_a_race_guards_all_but_the_papers_policies_unless_asked(command, tmp_path, options, guard):
    """The runs are those of `minimize` with that guard and the paper's m = 5."""
    argv = ["race", "--dataset", "digits", "--tasks", 1, "--against", "ADAM", "--max-iters", 25]
    status, out, _ = command(*argv, *options, "--json", "--out", tmp_path)
    assert status == 0
    assert strict_json(out)["settings"]["guard"] is (guard is not None)
    ((run,),) = (runs.values() for runs in load_results(tmp_path / "runs", ["L-BFGS-π"]))
    tasks = lp.get_tasks("digits", "test", num_tasks=1)
    data, x0 = tasks[0]
    policy = options[1] if options else None
    expected = lp.minimize(
        lambda x: tasks.task.loss(x, data), x0, policy=policy, memory_size=5, max_iters=25,
        guard=guard,
    ).trajectory  # fmt: skip
    np.testing.assert_allclose(run.value[:10], expected.value[:10], rtol=1e-6)
    np.testing.assert_allclose(run.step_size[:10], expected.step_size[:10], rtol=1e-6)


def test_a_policy_file_that_has_changed_is_another_race(command, tmp_path):
    """Its name alone does not say what was raced."""
    file = lp.save_policy(lp.cosine_policy(), tmp_path / "p")
    argv = [*RACE, "--against", "ADAM", "--policy", file, "--out", tmp_path / "out"]
    assert command(*argv)[0] == 0
    lp.save_policy(lp.constant_policy(0.1), file)
    assert_one_error(command(*argv), "results of another race")


@pytest.mark.slow
def test_more_tasks_add_to_a_race(command, tmp_path):
    """The result is that of a race of that many tasks from the start."""
    argv = ["race", "--dataset", "quadratic", "--max-iters", 4, "--against", "ADAM"]
    assert command(*argv, "--tasks", 1, "--out", tmp_path / "a")[0] == 0
    reports = []
    for folder in ("a", "b"):
        status, out, _ = command(*argv, "--tasks", 3, "--json", "--out", tmp_path / folder)
        assert status == 0
        reports.append(strict_json(out)["by"]["num_evals"])
    for first, second in zip(*reports, strict=True):
        for key in set(first) - {"ms_per_eval"}:
            assert first[key] == second[key]


@pytest.mark.slow
def test_all_competitors_by_default_and_own_targets(command, tmp_path):
    status, out, _ = command(
        "race", "--dataset", "quadratic", "--tasks", 1, "--max-iters", 3, "--split", "dev",
        "--grad-targets", 0.5, "--value-targets", 30, "--json", "--out", tmp_path,
    )  # fmt: skip
    assert status == 0
    report = strict_json(out)
    names = [line["name"] for line in report["by"]["seconds"]]
    assert names == ["L-BFGS-π", *BASELINES]
    assert [target["level"] for target in report["targets"]] == [0.5, 30.0]


# --- JSON -----------------------------------------------------------------------------------------


def test_json_is_all_there_is_on_standard_output(command, raced, trained):
    for argv in ([*TRAIN, "--out", trained], races(trained, raced), ["policies"]):
        status, out, _ = command(*argv, "--json")
        assert status == 0
        strict_json(out)
    status, out, _ = command(*races(trained, raced), "--json")
    assert strict_json(out) == strict_json((raced / "report.json").read_text())


def test_json_of_a_training_run_that_only_diverged(command, monkeypatch, tmp_path):
    """Undefined numbers are null in summary and log, and the table is printed all the same."""
    from jax_lbfgs_pi.training import config

    impossible = config.get_preset("fast", divergence_factor=1e-300)
    monkeypatch.setitem(config.PRESETS, "fast", impossible)
    status, out, err = command(*TRAIN, "--json", "--out", tmp_path)
    assert status == 0
    summary = strict_json(out)
    # Two tasks fill a group of six up; both outer steps are for nothing.
    assert (summary["skipped"], summary["share_skipped"]) == (12, 1.0)
    (line,) = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert line.startswith("warning: 12 of 12 unrolls (100%) were skipped")
    assert "--preset" in line
    assert line.endswith(".")
    assert summary["epochs"][0]["loss"] is None
    strict_json((tmp_path / "summary.json").read_text())
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        strict_json(line)
    assert command(*TRAIN, "--out", tmp_path)[0] == 0


def test_train_general_trains_goes_on_and_says_what_it_does_not_read(command, tmp_path):
    options = ("--families", "curve-power-law", "--out", tmp_path)
    general = ("train", "--preset", "general")
    status, out, _ = command(*general, "--generations", 2, *options)
    assert status == 0
    assert "Gain on the rule" in out
    assert "lbfgs-pi bench --policy" in out
    policy = lp.load_policy(tmp_path / "policy.safetensors")
    assert isinstance(policy, General)
    assert (tmp_path / "gain.png").read_bytes().startswith(PNG)
    summary = strict_json((tmp_path / "summary.json").read_text())
    assert summary["generations"] == 2
    ((_, *rows),) = Page((tmp_path / "report.html").read_text()).tables
    assert [row[0] for row in rows] == ["1 to 1", "2 to 2"]
    for row in rows:
        assert all(cell in out for cell in row)
    # Nothing is left to do.
    before = (tmp_path / "generations.jsonl").read_text()
    assert len(before.splitlines()) == 2
    assert command(*general, "--generations", 2, *options)[0] == 0
    assert (tmp_path / "generations.jsonl").read_text() == before
    status, _, err = command(*general, "--epochs", 3, *options)
    assert status == 2
    assert "does not read --epochs" in err
    status, _, err = command(*general, "--init-from", "rule", "--out", tmp_path / "other")
    assert status == 2
    assert "--init-from 'rule' is no policy of this preset" in err
    status, _, err = command(*general, "--families", "nothing", "--out", tmp_path / "other")
    assert status == 2
    assert "Unknown family 'nothing'" in err


def test_train_dense_trains_a_policy_for_a_dense_h(command, tmp_path):
    dense = ("train", "--preset", "dense", "--generations", 1, "--families", "curve-power-law")
    status, out, _ = command(*dense, "--out", tmp_path)
    assert status == 0
    assert "--policy dense" in out
    assert lp.load_policy(tmp_path / "policy.safetensors").is_for_a_dense_h
    status, _, err = command(*dense, "--init-from", "general", "--out", tmp_path / "other")
    assert status == 2
    assert "begin with such a one" in err


# --- policies and demo ----------------------------------------------------------------------------


def test_policies_are_listed(command):
    status, out, err = command("policies")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for name in lp.list_policies():
        assert re.search(rf"│ {name} ", out)
    assert out.count("(default)") == 1
    listed = strict_json(command("policies", "--json")[1])
    assert list(listed["policies"]) == lp.list_policies()
    assert listed["default"] in lp.list_policies()


@pytest.mark.parametrize("name", lp.list_policies())
def test_cards_are_shown(command, name):
    status, out, _ = command("policies", name)
    assert status == 0
    assert name in out
    words = lp.policy_card(name).split("\n\n")[1].split()[:3]
    assert " ".join(words) in " ".join(out.split())
    assert strict_json(command("policies", name, "--json")[1])["card"] == lp.policy_card(name)


def test_demo_from_end_to_end(command, tmp_path):
    few = ("--problems", 2, "--epochs", 1, "--tasks", 2, "--max-iters", 60)
    status, out, _ = command("demo", *few, "--out", tmp_path)
    assert status == 0
    solved = strict_json((tmp_path / "bench" / "report.json").read_text())
    assert len(solved["problems"]) == 2
    assert set(solved["competitors"]) == {FAVOURITE, "optax.lbfgs", "SciPy m=10", "ADAM"}
    test_kinds = {REGISTRY.kind(name) for name in list_problems("test")}
    assert {problem["kind"] for problem in solved["problems"].values()} <= test_kinds
    assert (tmp_path / "bench" / "data.png").read_bytes().startswith(PNG)
    assert isinstance(lp.load_policy(tmp_path / "train" / "policy.safetensors"), lp.Policy)
    assert len((tmp_path / "train" / "log.jsonl").read_text().splitlines()) == 20
    report = strict_json((tmp_path / "race" / "report.json").read_text())
    assert report["num_tasks"] == 2
    names = [line["name"] for line in report["by"]["num_evals"]]
    assert names == ["L-BFGS-π", f"π {DEFAULT}", *BASELINES]
    for name in ("curves.png", "advantage.png"):
        assert (tmp_path / "race" / name).read_bytes().startswith(PNG)
    for part in ("1. Solving", "2. Training", "3. Racing", "optax.lbfgs", "load it with"):
        assert part in out
    # What a policy is worth after one epoch hangs on the rounding of an unroll: no claim is made.
    (adam,) = [duel for duel in solved["duels"] if duel["against"] == "ADAM"]
    assert adam["score"]["value"] == 1.0
