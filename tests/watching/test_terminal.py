import io
import os
import subprocess
import sys
from pathlib import Path

import pyte
import pytest
from rich.console import Console

from fivebyfive.watching.terminal import Terminal

EVENTS = Path(__file__).parent.with_name("training_events.py")
SUMMARY = "loss 0.469, train acc 0.824, test acc 0.804"


class Screen:
    """A terminal of ``columns`` × ``rows`` that remembers what scrolled off its top."""

    def __init__(self, columns: int, rows: int) -> None:
        self._screen = pyte.HistoryScreen(columns, rows, history=1000, ratio=0.5)
        self._stream = pyte.Stream(self._screen)

    def feed(self, text: str) -> None:
        self._stream.feed(text.replace("\r\n", "\n").replace("\n", "\r\n"))

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def everything(self) -> str:
        """What is on the screen and above it, one space for each gap."""
        columns = range(self._screen.columns)
        above = ["".join(row[c].data for c in columns) for row in self._screen.history.top]
        return " ".join(" ".join([*above, *self._screen.display]).split())


def watch(events, columns, rows, until=None):
    """The screen after ``events`` (or the first ``until`` of them), each due to be drawn."""
    console = Console(
        file=io.StringIO(), force_terminal=True, width=columns, height=rows, legacy_windows=False
    )
    now = 0.0
    listener = Terminal(console, clock=lambda: now)
    for number, event in enumerate(events):
        if number == until:
            break
        listener.on(event)
        now += 0.03  # so that about every tenth event is drawn
    if until is None:
        listener.close()
    screen = Screen(columns, rows)
    screen.feed(console.file.getvalue())
    return screen


@pytest.mark.parametrize(("columns", "rows"), [(100, 30), (80, 24), (200, 60)])
def test_the_last_screen_holds_header_curves_and_summary(training, columns, rows):
    screen = watch(training.events(run=Path("runs/one")), columns, rows)
    assert screen.lines[0].startswith("recipe")
    for part in (
        "61,706 parameters",
        "/usr/share/datasets/fashion-mnist",
        "cpu, AMD EPYC 9R45, 2 threads · eager engine",
        "● test acc",
        "epoch 10/10",
        "100 %",
        SUMMARY,
        "23000.0 images/s training steps only · 21000.0 with data loading (4 %)",
    ):
        assert screen.everything.count(part) == 1, part
    assert "run runs/one" in screen.lines


def test_a_small_terminal_has_no_plot_and_loses_nothing(training):
    screen = watch(training.events(run=Path("runs/one")), 50, 15)
    assert "● test acc" not in screen.everything
    for part in ("61,706 parameters", "epoch 10/10", "100 %", SUMMARY):
        assert screen.everything.count(part) == 1, part
    assert "run runs/one" in screen.lines


@pytest.mark.parametrize(("columns", "rows"), [(100, 30), (80, 24), (50, 15), (30, 10)])
def test_the_display_is_redrawn_in_place(training, columns, rows):
    screen = watch(training.events(), columns, rows, until=100)
    shown = screen.everything
    assert shown.count("epoch 5/10") == 1
    for part in ("epoch 4/10", "starting"):
        assert part not in shown
    for part in (
        "loss 0.",
        "train acc 0.",
        "test acc 0.",
        " left",
        "23,000 images/s training steps only",
    ):
        assert part in shown


def test_notices_stand_out_at_the_start_in_place_and_at_the_end(training):
    shown = watch(training.events(notice="sample [data] used", plateau=2), 80, 24).everything
    assert shown.count("sample [data] used") == 2
    assert shown.count("still guesses") == 1
    assert shown.count(" notice ") == 3


def test_a_training_that_stops_leaves_its_figures(training):
    events = [training.started(), training.chunk(1, 47), training.chunk(1, 94)]
    screen = watch(events, 80, 24)
    assert "train acc 0.341" in screen.everything


def test_one_that_stops_before_its_first_step_leaves_its_header(training):
    assert "lenet-d2l" in watch([training.started()], 80, 24).everything


def test_no_color_is_respected(training, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    listener = Terminal(console)
    for event in training.events(epochs=1):
        listener.on(event)
    assert "\x1b[9" not in console.file.getvalue()
    assert "\x1b[38" not in console.file.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_on_a_real_terminal_while_stdout_stays_free():
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    code = (
        "import runpy, sys; from fivebyfive.watching import choose; listener = choose()\n"
        "for event in runpy.run_path(sys.argv[1])['events'](): listener.on(event)\n"
        "print('{}')"
    )
    environment = {**os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    with subprocess.Popen(
        [sys.executable, "-c", code, EVENTS],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
    ) as process:
        os.close(theirs)
        screen = Screen(80, 24)
        screen.feed(_all(ours).decode())
        assert process.stdout is not None
        assert process.stdout.read() == b"{}\n"
    os.close(ours)
    assert SUMMARY in screen.lines
    assert screen.everything.count("● test acc") == 1


def _all(descriptor: int) -> bytes:
    content = b""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # how Linux tells that the other end is closed
            return content
        if not part:
            return content
        content += part
