import dataclasses
import importlib.util

import pytest

from fivebyfive.lib.errors import FiveByFiveError
from fivebyfive.training.events import Started
from fivebyfive.watching.tensorboard import TensorBoard


def test_tensorboard_reads_back_what_was_written(training, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    listener = TensorBoard()
    for event in training.events(epochs=2):
        in_folder = isinstance(event, Started)
        listener.on(dataclasses.replace(event, run=tmp_path) if in_folder else event)
    listener.close()
    found = EventAccumulator(str(tmp_path)).Reload()
    assert set(found.Tags()["scalars"]) == {
        "loss/train",
        "accuracy/train",
        "loss/test",
        "accuracy/test",
        "speed/images_per_s",
        "speed/images_per_s_compute",
        "speed/data_share",
    }
    assert [s.step for s in found.Scalars("accuracy/test")] == [235, 470]
    assert found.Scalars("accuracy/test")[1].value == pytest.approx(
        training.epoch_done(2).test_acc, abs=1e-6
    )
    marks = [s.step for s in found.Scalars("loss/train")]
    assert marks == [1, 40, 79, 118, 157, 196, 235, 236, 275, 314, 353, 392, 431, 470]


def test_nothing_is_made_before_the_training_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TensorBoard().close()
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(FiveByFiveError, match="pip install tensorboard"):
        TensorBoard()
