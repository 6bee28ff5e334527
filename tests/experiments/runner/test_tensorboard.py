"""Event files for TensorBoard can be read with the protocol buffers of tensorboardX."""

import struct
import sys

import numpy as np
import pytest

from experiments import runner
from experiments.runner.tensorboard import TensorBoard

pytest.importorskip("tensorboardX")


def scalars(folder):
    """Returns (tag, step, value) of each scalar in the event files, in the order of writing."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            place += 12 + length + 4
    return found


def test_each_number_of_a_record_is_a_scalar_at_its_step(tmp_path):
    board = TensorBoard(tmp_path)
    board({"series": "train", "step": 10, "loss": [1.0, 3.0], "rate": 0.5})
    board({"series": "train", "step": 20, "loss": [None, 3.0], "note": "text", "facts": {"a": 1}})
    board.close()
    found = scalars(tmp_path)
    assert found[:2] == [("train/loss", 10, 2.0), ("train/rate", 10, 0.5)]
    ((tag, step, value),) = found[2:]
    assert (tag, step) == ("train/loss", 20)
    assert np.isnan(value)


def test_all_records_are_in_the_event_files_when_the_run_is_closed(tmp_path):
    run = runner.Run.start("study", runner.Settings(runs=tmp_path, tensorboard=True))
    for step in range(200):
        run.log.append(series="a", step=step, loss=step / 4)
    run.close()
    assert scalars(run.folder / "tensorboard") == [("a/loss", s, s / 4) for s in range(200)]


def test_a_run_without_the_setting_writes_no_event_files(tmp_path):
    run = runner.Run.start("study", runner.Settings(runs=tmp_path))
    run.log.append(series="a", step=1, loss=0.5)
    run.close()
    assert not (run.folder / "tensorboard").exists()


def test_without_tensorboardx_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match=r"pip install 'jaxdescent\[tensorboard\]'"):
        TensorBoard(tmp_path)
