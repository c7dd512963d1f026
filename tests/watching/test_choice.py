import io
import sys
from types import SimpleNamespace

import pytest

from fivebyfive.lib.errors import UnknownNameError
from fivebyfive.watching import choose
from fivebyfive.watching.choice import Quiet
from fivebyfive.watching.lines import Lines
from fivebyfive.watching.notebook import Notebook
from fivebyfive.watching.terminal import Terminal


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_kernel(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def kernel(shell):
    return SimpleNamespace(get_ipython=lambda: shell)


def test_auto_takes_the_terminal_where_there_is_one():
    assert isinstance(choose(stream=Screen()), Terminal)


def test_auto_takes_lines_for_pipes():
    assert isinstance(choose(stream=io.StringIO()), Lines)


def test_auto_takes_lines_for_a_dumb_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose(stream=Screen()), Lines)


def test_auto_takes_lines_where_the_curves_cannot_be_encoded():
    screen = Screen()
    screen.encoding = "latin-1"
    assert isinstance(choose(stream=screen), Lines)


def test_auto_takes_the_notebook_inside_a_kernel(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", kernel(SimpleNamespace(kernel=object())))
    assert isinstance(choose(stream=Screen()), Notebook)


def test_ipython_in_a_terminal_is_a_terminal(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", kernel(SimpleNamespace()))
    assert isinstance(choose(stream=Screen()), Terminal)


def test_the_text_goes_to_stderr_unless_told_otherwise(training, capsys):
    listener = choose("lines")
    for event in training.events():
        listener.on(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert "loss 0.469, train acc 0.824, test acc 0.804" in err


def test_quiet_shows_nothing(training, capsys):
    listener = choose("quiet")
    assert isinstance(listener, Quiet)
    for event in training.events():
        listener.on(event)
    listener.close()
    assert capsys.readouterr() == ("", "")


def test_an_unknown_mode_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="'terminal'"):
        choose("termnal")


@pytest.mark.parametrize("mode", ["auto", "lines"])
def test_nothing_is_shown_where_stderr_is_closed(monkeypatch, capfd, mode):
    monkeypatch.setattr(sys, "stderr", None)
    listener = choose(mode)
    assert isinstance(listener, Quiet) or mode == "lines"
    listener.on(object())
    listener.close()
    assert capfd.readouterr() == ("", "")
