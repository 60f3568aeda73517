"""What TensorBoard reads, read by its own protocol buffers."""

import struct
import sys
import time

import pytest

from jax_lbfgs_pi.training.tensorboard import FOLDER, curves


def points(folder):
    """All (name, step, value) in the event files of a folder: lengths, checksums and protos."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((folder / FOLDER).iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            at += length + 16
    return found


def test_points_are_there_while_the_training_runs(tmp_path):
    pytest.importorskip("tensorboardX")
    with curves(tmp_path) as add:
        add(3, loss=0.5, wins=0.25)
        until = time.monotonic() + 60
        while len(points(tmp_path)) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        assert points(tmp_path) == [("loss", 3, 0.5), ("wins", 3, 0.25)]
        add(4, loss=0.125)
    assert points(tmp_path)[2:] == [("loss", 4, 0.125)]


def test_nothing_is_written_or_needed_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with curves(tmp_path, on=False) as add:
        add(0, loss=1.0)
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(ValueError, match=r"pip install 'jax_lbfgs_pi\[tensorboard\]'"),
        curves(tmp_path),
    ):
        pass
