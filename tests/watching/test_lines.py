import io
from pathlib import Path

from fivebyfive.watching.lines import Lines


def watch(events):
    stream = io.StringIO()
    ticks = iter(range(10_000))
    listener = Lines(stream, clock=lambda: float(next(ticks)))
    for event in events:
        listener.on(event)
    listener.close()
    return stream.getvalue()


def test_one_line_an_epoch_with_everything_in_it(training):
    text = watch(training.events(epochs=10, run=Path("runs/one")))
    epochs = [line for line in text.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == 10
    assert epochs[0].startswith("epoch  1/10: loss 1.142, train acc 0.559, test acc 0.539 · ")
    assert "23,000 images/s training steps only · 21,000 with data loading (4 %)" in epochs[0]
    assert all(line.endswith(" left") for line in epochs[:-1])


def test_the_header_names_recipe_network_device_engine_data_and_source(training):
    text = watch(training.events())
    head = text.split("epoch  1")[0]
    for part in ("lenet-d2l", "61,706", "cpu", "AMD", "eager", "fashion-mnist", "/usr/share"):
        assert part in head


def test_the_end_is_as_the_book_prints_it(training):
    lines = watch(training.events(run=Path("runs/one"))).splitlines()
    assert lines[-3:] == [
        "loss 0.469, train acc 0.824, test acc 0.804",
        "23000.0 images/s training steps only · 21000.0 with data loading (4 %)",
        "run runs/one",
    ]


def test_notices_stand_at_the_start_in_place_and_at_the_end(training):
    lines = watch(training.events(notice="sample data used", plateau=2)).splitlines()
    told = [i for i, line in enumerate(lines) if line == "NOTICE: sample data used"]
    assert told[0] < lines.index(next(line for line in lines if line.startswith("epoch  1")))
    assert told[1] == len(lines) - 1
    plateau = next(i for i, line in enumerate(lines) if "still guesses" in line)
    assert lines[plateau - 1].startswith("epoch  2")


def test_no_control_character_ever_comes_through(training):
    text = watch(training.events(notice="a\x1b[31m\tb\r\nc", run=Path("runs/\x07bell")))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "NOTICE: a?[31m b c" in text
