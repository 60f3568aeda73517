"""Cards of trained policies, and packed logs."""

import dataclasses
import gzip
import math
import statistics

import numpy as np
import pytest

from jax_lbfgs_pi.training import MetaTrainConfig, MetaTrainLog
from jax_lbfgs_pi.training.card import MOST_ROWS, training_card
from jax_lbfgs_pi.training.log import LogFile, OuterRecord, pack_log, read_log

PROVENANCE = {
    "command": "lbfgs-pi train --seed 3",
    "date": "2026-11-24",
    "jax": "0.10.2",
    "python": "3.11.7",
    "cpu_cores": 2,
    "device": "cpu (cpu)",
    "x64": True,
}


def make_log(num_epochs, seed=0):
    rng = np.random.default_rng(seed)
    records = []
    for epoch in range(num_epochs):
        for i in range(6):
            blown_up = rng.random() < 0.3
            records.append(
                OuterRecord(
                    step=len(records),
                    epoch=epoch,
                    group=i // 2,
                    unroll=i % 2,
                    tasks=[i // 2],
                    loss=math.nan if i == 5 else 1e5 if blown_up else float(rng.uniform(1, 50)),
                    last_value=0.5,
                    grad_norm=1e-3,
                    num_skipped=int(i == 5),
                    tau_min=-3.0,
                    tau_max=0.0,
                    seconds=0.25,
                )
            )
    return MetaTrainLog(records)


def rows_of(card):
    lines = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_cards_table_says_what_the_log_does():
    log = make_log(3)
    card = training_card("mine", "digits", 3, MetaTrainConfig(seed=3), log, PROVENANCE)
    rows = rows_of(card)
    assert [row[0] for row in rows] == ["1", "2", "3"]
    for epoch, (_, first, every, blown_up) in enumerate(rows):
        records = [r for r in log.records if r.epoch == epoch]
        firsts = [r.loss for r in records if r.unroll == 0]
        losses = [math.inf if math.isnan(r.loss) else r.loss for r in records]
        assert float(first) == pytest.approx(statistics.median(firsts), rel=1e-3)
        assert float(every) == pytest.approx(statistics.median(losses), rel=1e-3)
        assert blown_up == f"{sum(x > 1000 for x in losses)} of 6"


def test_a_card_names_settings_cost_and_provenance():
    config = MetaTrainConfig(seed=3, clip_layer="implicit", num_epochs=2)
    card = training_card("mine", "digits", 3, config, make_log(2), PROVENANCE)
    assert card.startswith("# mine\n")
    assert "preset `paper` but for num_epochs=2, clip_layer=implicit; seed 3." in card
    assert "12 outer steps of 0.250 s (median), 0.00 hours; 2 unrolls skipped." in card
    assert "`lbfgs-pi train --seed 3`" in card
    assert "2026-11-24; jax 0.10.2, Python 3.11.7, 2 core(s), cpu (cpu), float64." in card


def test_long_runs_are_shown_in_few_rows_the_last_among_them():
    card = training_card("mine", "digits", 3, MetaTrainConfig(), make_log(50), PROVENANCE)
    epochs = [int(row[0]) for row in rows_of(card)]
    assert epochs[0] == 1
    assert epochs[-1] == 50
    assert epochs == sorted(set(epochs))
    assert len(epochs) <= MOST_ROWS + 1


def test_the_share_of_skipped_unrolls_counts_tasks():
    """Of two steps with three tasks each and one with one, four unrolls of seven."""
    step = make_log(1).records[0]
    steps = [dataclasses.replace(step, tasks=[0, 1, 2], num_skipped=n) for n in (3, 0)]
    log = MetaTrainLog([*steps, dataclasses.replace(step, tasks=[0], num_skipped=1)])
    assert log.share_skipped == pytest.approx(4 / 7)
    assert MetaTrainLog().share_skipped == 0.0


def test_a_packed_log_reads_the_same(tmp_path):
    log = make_log(2)
    LogFile(tmp_path, log).close()
    pack_log(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl.gz"]
    packed = (tmp_path / "log.jsonl.gz").read_bytes()
    again = read_log(tmp_path)
    for one, other in zip(again.records, log.records, strict=True):
        np.testing.assert_equal(dataclasses.asdict(one), dataclasses.asdict(other))
    LogFile(tmp_path, log).close()
    pack_log(tmp_path)
    assert (tmp_path / "log.jsonl.gz").read_bytes() == packed
    pack_log(tmp_path)  # nothing left to pack
    assert (tmp_path / "log.jsonl.gz").read_bytes() == packed


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "a flipped byte": lambda content: content[:30] + bytes([content[30] ^ 0xFF]) + content[31:],
    "not gzip": gzip.decompress,
    "binary": lambda content: gzip.compress(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_packed_log_is_one_clear_sentence(tmp_path, damage):
    LogFile(tmp_path, make_log(2)).close()
    pack_log(tmp_path)
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"^The log in '.*log.jsonl.gz' is damaged: restore .*\.$"):
        read_log(tmp_path)
