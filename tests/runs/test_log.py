import dataclasses
import hashlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivebyfive.lib.errors import RunError
from fivebyfive.runs.log import MetricsLog, read, rewind, row


def strict(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_a_row_a_mark_an_epoch_and_a_notice(training, tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for event in training.events(epochs=2, plateau=1):
        log.on(event)
    log.close()
    rows = read(path)
    kinds = [r["event"] for r in rows]
    assert kinds == ["mark"] * 7 + ["epoch", "notice"] + ["mark"] * 7 + ["epoch"]
    mark, epoch, notice = rows[0], rows[7], rows[8]
    speed = {"images_per_s", "images_per_s_compute", "data_share"}
    assert mark.keys() == speed | {
        "event", "epoch", "step", "steps", "position", "images", "train_loss", "train_acc"
    }  # fmt: skip
    assert epoch.keys() == speed | {
        "event", "epoch", "epochs", "train_loss", "train_acc", "test_loss", "test_acc",
        "test_correct", "test_images", "train_seconds", "test_seconds",
    }  # fmt: skip
    assert notice.keys() == {"event", "kind", "epoch", "message"}
    assert mark["position"] == 1 / 235


def test_each_row_is_in_the_file_at_once(training, tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.on(training.epoch_done(1))
    assert len(read(path)) == 1
    log.close()


def test_events_without_figures_have_no_row(training):
    assert row(training.started()) is None
    assert row(training.chunk(1, 5, mark=False)) is None


@given(loss=st.floats(), acc=st.floats())
@settings(deadline=None, max_examples=50)
def test_every_row_is_strict_json(training, loss, acc):
    event = dataclasses.replace(training.epoch_done(1), train_loss=loss, test_acc=acc)
    values = strict(json.dumps(row(event), allow_nan=False))
    assert values["train_loss"] == (loss if math.isfinite(loss) else None)
    assert values["test_acc"] == (acc if math.isfinite(acc) else None)


@given(cut=st.integers(0, 400))
@settings(deadline=None, max_examples=50)
def test_a_torn_last_line_is_left_out(tmp_path_factory, cut):
    whole = b'{"event": "notice", "message": "\xc3\xa9"}\n' * 10
    path = tmp_path_factory.mktemp("torn") / "metrics.jsonl"
    path.write_bytes(whole[:cut])
    assert len(read(path)) == whole[:cut].count(b"\n")


@pytest.mark.parametrize("damaged", [b"[1]", b"{", b"", b"\xff"])
def test_a_damaged_line_is_named(tmp_path, damaged):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"event": "notice"}\n' + damaged + b"\n")
    with pytest.raises(RunError, match="line 2: expected a JSON object"):
        read(path)


def test_a_long_training_has_a_long_log(training, tmp_path):
    path = tmp_path / "metrics.jsonl"
    line = f"{json.dumps(row(training.epoch_done(1)))}\n".encode()
    count = (17 << 20) // len(line)
    path.write_bytes(line * count)
    rows = read(path)
    assert len(rows) == count
    assert rows[0] == rows[-1] == json.loads(line)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        read(tmp_path / "metrics.jsonl")


def test_the_log_counts_what_it_wrote_and_goes_back_to_it(training, tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    assert log.written() == (0, hashlib.sha256().hexdigest())
    log.on(training.epoch_done(1))
    at = log.written()
    assert at == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    log.on(training.epoch_done(2))
    log.sync()
    log.close()
    assert rewind(path, *at)
    again = MetricsLog(path)
    assert again.written() == at
    again.close()
    assert len(read(path)) == 1
    assert not rewind(path, at[0] + 1, at[1])
    assert len(read(path)) == 1
    path.write_bytes(path.read_bytes()[:-3])
    assert not rewind(path, *at)
    assert path.read_bytes() == b""
    assert rewind(tmp_path / "none", 0, hashlib.sha256().hexdigest())


def test_a_row_that_cant_be_written_is_remembered_and_ends_the_log(training, tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.close()
    log._file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
    log.on(training.epoch_done(1))
    assert log.failure is not None
    log.on(training.epoch_done(2))
    with pytest.raises(OSError, match="No space left"):
        log.sync()
    log.close()


def test_a_log_that_cant_be_opened_or_is_no_log(tmp_path):
    with pytest.raises(RunError, match="can't write"):
        MetricsLog(tmp_path)
    path = tmp_path / "metrics.jsonl"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RunError, match="line 1: too long; expected at most 65,536 bytes"):
        read(path)
    path.write_bytes(b"[" * 60_000 + b"\n")
    with pytest.raises(RunError, match="line 1: expected a JSON object"):
        read(path)
