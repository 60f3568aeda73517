"""The command `lbfgs-pi reproduce`."""

import collections
import dataclasses
import json

import pytest

from jax_lbfgs_pi.reproduce import claims, grids
from jax_lbfgs_pi.reproduce.artefacts import ARTEFACTS
from jax_lbfgs_pi.reproduce.races import RACES
from jax_lbfgs_pi.reproduce.records import RunFolder
from jax_lbfgs_pi.reproduce.trainings import TRAININGS
from tests.command_line import assert_one_error, strict_json
from tests.hand_made import (
    PI,
    without_seconds,
)
from tests.reproduce.helpers import (
    convex_runs,
    fill_race,
    made,
)


def test_help(command):
    status, out, err = command("--help")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for option in ("--tasks", "--sizes", "--shard", "--render", "--pack", "--out", "--json"):
        assert option in out
    for name in ARTEFACTS:
        assert name in out


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["fig9"], ["Unknown artefact 'fig9'", *ARTEFACTS]),
        (["table1", "fig"], ["Unknown artefact 'fig'"]),
        (["--tasks", "0"], ["--tasks: expected an integer of at least 1, got '0'"]),
        (["convex", "--tasks", "-3"], ["--tasks: expected an integer of at least 1, got '-3'"]),
        (["--tasks", "some"], ["expected an integer of at least 1, got 'some'"]),
        *(
            (["convex", f"--shard={text}"], ["--shard must be I/N with 0 <= I < N", repr(text)])
            for text in ("2/2", "3/2", "-1/2", "0/0", "1", "a/b", "0/1/2", "", "0.5/2")
        ),
        (["all", "fig9"], ["Unknown artefact 'fig9'"]),
        (["--sizes", "9,9"], ["--sizes has '9,9': choose among 1,20 2,400 4,800."]),
        (["--sizes", "1,20", "20"], ["--sizes has '20': choose among 1,20 2,400 4,800."]),
        (["--sizes", "1x20"], ["--sizes has '1x20': choose among 1,20 2,400 4,800."]),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_one_sentence(command, runner, tmp_path, argv, parts):
    assert_one_error(command(*argv, "--out", tmp_path / "out"), *parts)
    assert not (tmp_path / "out").exists()
    assert runner.calls == []


def test_rendering_an_empty_folder_says_what_is_missing(command, runner, trainer, tmp_path):
    status, out, _ = command("--render", "--out", tmp_path / "out")
    assert status == 0
    assert runner.calls == trainer == []
    lines = out.splitlines()
    for name, line in zip(ARTEFACTS, lines, strict=False):
        if name == "claims":
            assert line.split() == ["claims", "claims.md"]
        else:
            assert line.startswith(f"{name} ")
            assert "not made" in line
            assert str(tmp_path / "out") in line
    assert len(lines) == len(ARTEFACTS) + 1
    assert made(tmp_path / "out") == ["claims.md", "summary.json"]
    text = (tmp_path / "out" / "claims.md").read_text()
    assert text.count("| not run |") == len(claims.CLAIMS)


def test_everything_in_form(command, runner, trainer, drawn, tmp_path):
    """All of it with `--tasks 1`; then again, from the records alone; then packed."""
    status, out, err = command("all", "--tasks", 1, "--out", tmp_path)
    assert status == 0
    assert "not made" not in out
    assert [line.split()[0] for line in out.splitlines()][:-1] == list(ARTEFACTS)
    runs = collections.Counter(call[0] for call in runner.calls)
    # One task of each race, and of each of the 21 settings.
    expected = collections.Counter({"mnist-train": 21})
    for race in RACES.values():
        images = "" if race.batch_size == 1000 else f"-{race.batch_size}"
        expected[f"{race.dataset}-test{images}"] += sum(
            map(len, (race.policies, race.against, race.beside))
        )
    assert runs == expected
    assert {call[2] for call in runner.calls} == {0}
    assert [asked[1] for asked in trainer] == [1] * len(TRAININGS)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["tasks"] == 1
    assert list(summary["artefacts"]) == list(ARTEFACTS)
    files = {name for names in summary["artefacts"].values() for name in names}
    assert files | {"summary.json"} == set(made(tmp_path))
    for name in (
        "grids",
        "mnist-1x20",
        "cifar10",
        "cifar10-100",
        "logistic",
        "limits",
        "layer-cvx",
    ):
        assert name in err  # the progress bars, beside the results

    before = {name: (tmp_path / name).read_bytes() for name in files}
    runner.calls.clear()
    trainer.clear()
    for argv in (["--tasks", 1], ["--render"], ["--render", "--pack"], ["--render"]):
        status, out, _ = command(*argv, "--out", tmp_path)
        assert status == 0
        assert "not made" not in out
        assert {name: (tmp_path / name).read_bytes() for name in files} == before
    assert runner.calls == trainer == []
    for race in [*RACES, "grids"]:
        folder = tmp_path / "records" / race
        assert {path.name for path in folder.iterdir()} <= {
            "race.json",
            "runs.csv.gz",
            "curves.npz",
        }
        assert (folder / "runs.csv.gz").is_file()
    for name in TRAININGS:
        files = {path.name for path in (tmp_path / "trainings" / name).iterdir()}
        assert "log.jsonl.gz" in files
        assert not {"log.jsonl", "checkpoints"} & files
    # And what is packed can be gone on with: nothing is run again.
    assert command("--tasks", 1, "--out", tmp_path)[0] == 0
    assert runner.calls == trainer == []


def test_json_is_all_there_is_on_standard_output(command, runner, drawn, tmp_path):
    status, out, _ = command("convex", "claims", "--tasks", 1, "--json", "--out", tmp_path)
    assert status == 0
    summary = strict_json(out)
    assert summary["artefacts"] == {"convex": ["convex.png", "convex.md"], "claims": ["claims.md"]}
    assert summary == strict_json((tmp_path / "summary.json").read_text())
    assert set(summary["provenance"]) >= {"command", "date", "jax", "python", "device", "x64"}
    status, out, _ = command("fig6", "--render", "--json", "--out", tmp_path)
    assert (status, strict_json(out)["artefacts"]) == (0, {})


def test_only_what_is_asked_for_is_run(command, runner, trainer, drawn, tmp_path):
    assert command("convex", "--tasks", 1, "--out", tmp_path / "a")[0] == 0
    assert {call[0] for call in runner.calls} == {"quadratic-test", "logistic-test"}
    assert trainer == []
    runner.calls.clear()
    assert command("tau-limit", "--tasks", 1, "--out", tmp_path / "b")[0] == 0
    assert runner.calls == []
    assert len(trainer) == 1
    assert made(tmp_path / "b") == ["summary.json", "tau-limit.png"]
    trainer.clear()
    assert command("fig6", "--tasks", 1, "--out", tmp_path / "c")[0] == 0
    assert {call[0] for call in runner.calls} == {"cifar10-test"}
    assert [asked[0] for asked in trainer] == ["cifar10-train"]  # π_C
    runner.calls.clear()
    trainer.clear()
    assert command("fig6-small", "--tasks", 1, "--out", tmp_path / "e")[0] == 0
    assert {call[0] for call in runner.calls} == {"cifar10-test-100"}
    assert [asked[0] for asked in trainer] == ["cifar10-train-100"]
    runner.calls.clear()
    assert command("claims", "--out", tmp_path / "d")[0] == 0
    assert runner.calls == []


def test_sizes_choose_the_networks(command, runner, drawn, tmp_path):
    argv = ["table1", "fig5", "--tasks", 1, "--out", tmp_path]
    assert command(*argv, "--sizes", "2,400")[0] == 0
    # Here no tuned competitor takes part, which is all that the grids are for.
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["mnist-2x400"]
    assert [a.get_title() for a in drawn["fig5.png"].axes] == ["mnist-2x400, 1 task"]
    text = (tmp_path / "table1.md").read_text()
    assert "mnist-2x400" in text
    assert "mnist-1x20" not in text
    assert command(*argv, "--sizes", "1,20", "2,400")[0] == 0
    assert [a.get_title() for a in drawn["fig5.png"].axes] == [
        "mnist-1x20, 1 task",
        "mnist-2x400, 1 task",
    ]
    assert sorted(path.name for path in (tmp_path / "records").iterdir()) == [
        "grids",
        "mnist-1x20",
        "mnist-2x400",
    ]


@pytest.mark.parametrize("name", ["fig3", "fig4", "fig7"])
@pytest.mark.parametrize("render", [[], ["--render"]])
def test_figures_of_one_network_say_so_where_it_is_left_out(
    command, runner, tmp_path, name, render
):
    fill_race(tmp_path, "mnist-1x20", [0])
    status, out, _ = command(name, "--sizes", "2,400", "4,800", *render, "--out", tmp_path)
    assert status == 0
    expected = f"{name} not made: it is of 1,20 alone, which --sizes leaves out"
    assert " ".join(out.splitlines()[0].split()) == expected
    assert runner.calls == []
    assert made(tmp_path) == ["summary.json"]


def test_all_is_all_wherever_it_stands(command, tmp_path):
    for argv in ([], ["all"], ["fig3", "all"], ["all", "claims"]):
        status, out, _ = command(*argv, "--render", "--out", tmp_path)
        assert status == 0
        assert [line.split()[0] for line in out.splitlines()[:-1]] == list(ARTEFACTS)


def test_shards_of_the_command_are_one_race(command, runner, drawn, tmp_path):
    for shard in ("0/3", "2/3", "1/3"):
        argv = ["convex", "--tasks", 7, "--shard", shard, "--out", tmp_path / "shared"]
        assert command(*argv)[0] == 0
    shared = runner.calls[:]
    assert len(set(shared)) == len(shared)
    runner.calls.clear()
    assert command("convex", "--tasks", 7, "--out", tmp_path / "whole")[0] == 0
    assert sorted(shared) == sorted(runner.calls)
    assert len(shared) == convex_runs(7)
    for race in ("quadratic", "logistic"):
        a, b = (
            [without_seconds(row) for row in RunFolder(tmp_path / out / "records" / race).rows()]
            for out in ("shared", "whole")
        )
        assert a == b


@pytest.mark.parametrize("name", ["fig3", "fig4", "fig7", "table1", "convex"])
def test_a_shard_without_the_first_tasks(command, runner, drawn, tmp_path, name):
    """Its records are of tasks 5 and 11: there may be nothing to draw yet, which is no error."""
    argv = [name, "--sizes", "1,20", "--tasks", 12, "--shard", "5/6", "--out", tmp_path]
    assert command(*argv)[0] == 0
    assert {call[2] for call in runner.calls if call[0].endswith("test")} == {5, 11}


def test_an_interrupted_reproduction_goes_on(command, runner, drawn, tmp_path, monkeypatch):
    save, saved = RunFolder.save, []

    def interrupted_save(self, run, row, *, curve):
        if len(saved) == 20:
            raise KeyboardInterrupt
        save(self, run, row, curve=curve)
        saved.append(row)

    argv = ["convex", "--tasks", 2, "--out", tmp_path]
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", interrupted_save)
        status, out, err = command(*argv)
    assert (status, out) == (130, "")
    assert f"with --out {tmp_path}" in " ".join(err.split())
    assert len(runner.calls) == 21
    assert command(*argv)[0] == 0
    assert len(runner.calls) == convex_runs(2) + 1  # the run that was lost is made again, none else


def test_grids_that_were_interrupted_are_not_judged(command, runner, tmp_path, monkeypatch):
    """Some settings have not run at all: there is no best one yet."""

    def interrupt(name):
        if len(runner.calls) == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grids.run_grids(tmp_path, on_run=interrupt)
    status, out, _ = command("grids", "--render", "--out", tmp_path)
    assert status == 0
    assert "not made" in out


def test_a_damaged_table_is_one_line(command, runner, drawn, tmp_path):
    assert command("convex", "--tasks", 1, "--pack", "--out", tmp_path)[0] == 0
    path = tmp_path / "records" / "logistic" / "runs.csv.gz"
    path.write_bytes(path.read_bytes()[:-20])
    for argv in (["--render"], ["--tasks", 1]):
        assert_one_error(
            command("convex", *argv, "--out", tmp_path), "logistic/runs.csv.gz", "damaged"
        )


def test_records_of_another_policy_are_one_line(command, runner, drawn, tmp_path, monkeypatch):
    assert command("convex", "--tasks", 1, "--out", tmp_path)[0] == 0
    other = dataclasses.replace(RACES["quadratic"], policies={PI: "unit"})
    monkeypatch.setitem(RACES, "quadratic", other)
    result = command("convex", "--tasks", 1, "--out", tmp_path)
    assert_one_error(result, "quadratic", "another race or policy", "--out")


def test_missing_data_says_what_to_do(command, monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="needs the extra 'data'")
    pytest.importorskip("array_record", reason="needs the extra 'data'")
    monkeypatch.setenv("JAX_LBFGS_PI_CACHE", str(tmp_path / "cache"))
    result = command("grids", "--tasks", 1, "--data-dir", tmp_path, "--out", tmp_path / "out")
    assert_one_error(result, "download_and_prepare()")
